"""`recsys serve` on one machine: worker processes under uvicorn's supervisor."""

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
from serve.http.run_folder import ServiceFolder
from serve.http.settings import ServiceSettings
from serve.http.worker import SETTINGS_VARIABLE

# uvloop accepts one connection per turn of the loop from each listening socket, and a turn takes milliseconds
# under load: clients that open a connection for each request would wait for seconds at a single one.
LISTENERS = 8
# Connections of a worker, idle ones included. Far more than the admitted requests, so that the admission
# refuses requests, with `Retry-After`, before uvicorn does, without.
MIN_CONNECTIONS, CONNECTIONS_PER_REQUEST = 1024, 16
# Longer than the usual minute of proxies, so that the proxy closes an idle connection and not the service.
KEEP_ALIVE_SECONDS = 75
# URL and headers of a request.
MAX_HEAD_BYTES = 1 << 16
# How long a worker may take to load a bundle before uvicorn replaces it.
START_SECONDS = 120


class Supervisor(Multiprocess):
    """uvicorn's supervisor, which notices at once that a worker has died."""

    def keep_subprocess_alive(self) -> None:
        """Replace dead workers."""
        # While this process holds the worker's end of the pipe too, a worker that dies between a ping and its
        # answer does not close the pipe, and uvicorn waits for the answer until its timeout.
        for process in self.processes:
            process.child_conn.close()
        super().keep_subprocess_alive()


def run_service(settings: ServiceSettings, listener: socket.socket, n_workers: int) -> None:
    """Serve until SIGTERM or Ctrl-C; SIGHUP restarts the workers one by one.

    Raises BundleError or DeviceError: the bundle can't be served when the service starts.
    """
    with tempfile.TemporaryDirectory(prefix="recsys-serve-", ignore_cleanup_errors=True) as scratch:
        run_folder = ServiceFolder(Path(scratch))
        os.environ[SETTINGS_VARIABLE] = settings.to_json()
        os.environ[FOLDER_VARIABLE] = scratch
        # Workers import no modules from the current folder.
        os.environ["PYTHONSAFEPATH"] = "1"
        config = uvicorn.Config(
            "serve.http.worker:create_worker_app",
            factory=True,
            workers=n_workers,
            lifespan="on",
            http="h11",  # httptools answers more requests a second, but stores headers without a limit
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
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
        supervisor = Supervisor(config, [listener.dup() for _ in range(LISTENERS)])
        listener.close()
        stop = signal.getsignal(signal.SIGTERM)
        assert callable(stop)

        def note_and_stop(number: int, frame: FrameType | None) -> None:
            run_folder.stopping.touch()
            stop(number, frame)

        signal.signal(signal.SIGTERM, note_and_stop)
        supervisor.run()
        run_folder.raise_failure()
