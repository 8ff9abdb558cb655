"""The life of `recsys serve` on one machine: uvicorn's supervisor of worker processes, as it ships."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.supervisors import Multiprocess

from serve.http.metrics import FOLDER_VARIABLE
from serve.http.run_folder import RunFolder
from serve.http.settings import ServiceSettings
from serve.http.worker import SETTINGS_VARIABLE

# An event loop accepts one connection a turn from a socket, and a turn under load takes milliseconds: clients
# that open a connection for each request would wait for seconds. So each worker listens several times.
LISTENERS = 8
# Of a worker, idle ones too. Far more than the requests that it admits: what has no place is told so by the
# admission, with `Retry-After`, where uvicorn's own refusal has none.
MIN_CONNECTIONS, CONNECTIONS_PER_REQUEST = 1024, 16
# Longer than the usual minute of proxies: they, and not we, should be the ones to close an idle connection.
KEEP_ALIVE_SECONDS = 75
# How long a worker that replaces a running one may take to load a bundle.
START_SECONDS = 120


def run_service(settings: ServiceSettings, listener: socket.socket, n_workers: int) -> None:
    """Serve until SIGTERM or Ctrl-C; SIGHUP restarts the workers one by one.

    Args:
        settings: Of every worker.
        listener: What `bind` gave.
        n_workers: Processes.

    Raises:
        BundleError, DeviceError: the bundle that is there at the start can't be served.
    """
    with tempfile.TemporaryDirectory(prefix="recsys-serve-", ignore_cleanup_errors=True) as scratch:
        run_folder = RunFolder(Path(scratch))
        os.environ[SETTINGS_VARIABLE] = settings.to_json()
        os.environ[FOLDER_VARIABLE] = scratch
        # Workers import no module of the folder that the service is started in.
        os.environ["PYTHONSAFEPATH"] = "1"
        config = uvicorn.Config(
            "serve.http.worker:create_worker_app",
            factory=True,
            workers=n_workers,
            lifespan="on",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=max(MIN_CONNECTIONS, CONNECTIONS_PER_REQUEST * settings.max_concurrency),
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=settings.grace_seconds,
            timeout_worker_healthcheck=START_SECONDS,
        )
        supervisor = Multiprocess(config, [listener.dup() for _ in range(LISTENERS)])
        listener.close()
        stop = signal.getsignal(signal.SIGTERM)
        assert callable(stop)

        def note_and_stop(number: int, frame: FrameType | None) -> None:
            run_folder.note_stop()
            stop(number, frame)

        signal.signal(signal.SIGTERM, note_and_stop)
        supervisor.run()
        run_folder.raise_failure()
