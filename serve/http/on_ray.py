"""The same app under Ray Serve: replicas on the nodes of a cluster, behind Ray's proxy.

The pointer and its bundles must have the same path on every node. Each replica follows the pointer by itself,
as a worker process does.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from serve.processes.ray_cluster import connect

# isort: split
import ray
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions
from starlette.types import ASGIApp

from serve.http.app import create_app
from serve.http.following import Follower
from serve.http.model import CurrentModel, load_model
from serve.http.pointer import resolve
from serve.http.settings import ServiceSettings

APP_NAME = "recsys"
# Ray must pass more requests on than the app admits, so that the app refuses them with its own error.
ONGOING_PER_SLOT = 4
# How long Ray may take to stop, beside the grace time of the replicas.
STOP_SECONDS = 20

WAKE_SECONDS = 0.1

Say = Callable[[str], None]


@ray_serve.ingress()
class Replica:
    """One replica: the app and its model."""

    def __init__(self, settings: str) -> None:
        self.settings = ServiceSettings.from_json(settings)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        current = CurrentModel()
        return create_app(self.settings, current, Follower(self.settings, current).lifespan)


def run_on_ray(
    settings: ServiceSettings, *, host: str, port: int, n_replicas: int, address: str | None, say: Say
) -> None:
    """Serve until SIGTERM or Ctrl-C, and end the process. `say` prints a line for the user.

    Ray's proxy listens on `host` and `port`. `address` is a cluster to join; None starts one on this machine.

    Raises:
        BundleError, DeviceError: the bundle can't be served when the service starts.
        ClusterError: there is no such cluster.
    """
    # Loaded here once, so that a bad bundle ends the command at once.
    model = load_model(
        resolve(settings.bundle),
        settings.device,
        settings.threads,
        exact=settings.exact,
        tf32=settings.tf32,
        public_key=settings.public_key,
    )
    version, device = model.version, model.recommender.device
    del model
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    connect(address)
    # After `connect`, in which Ray installs its own handlers.
    signal.signal(signal.SIGHUP, lambda *_: None)  # replicas follow the pointer by themselves
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    has_started = False
    try:
        ray_serve.start(http_options=HTTPOptions(host=host, port=port))
        deployment_of: Any = ray_serve.deployment  # its types are too narrow
        deployment = deployment_of(
            Replica,
            name=APP_NAME,
            num_replicas=n_replicas,
            max_ongoing_requests=settings.max_concurrency * ONGOING_PER_SLOT,
            graceful_shutdown_wait_loop_s=0.5,
            graceful_shutdown_timeout_s=settings.grace_seconds,
            ray_actor_options={
                "num_cpus": settings.threads or 1,
                "num_gpus": 1 if device == "cuda" else 0,
            },
        )
        ray_serve.run(deployment.bind(settings.to_json()), name=APP_NAME, route_prefix="/")
        has_started = True
        say(f"Serving {settings.bundle} on http://{host}:{port}: version {version}, under Ray Serve.")
        while True:  # the handler of a signal that another thread receives runs when this one wakes
            time.sleep(WAKE_SECONDS)
    except SystemExit as signalled:
        why = f" ({signalled.code})" if has_started else ": the service had not finished starting"
        say(f"Stopping{why}.")
    finally:
        _stop(settings.grace_seconds + STOP_SECONDS, say)


def _leave(number: int, frame: object) -> None:
    """End the wait, or a start that may take for ever."""
    _ignore_further_signals()
    sys.exit(signal.Signals(number).name)


def _ignore_further_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


def _stop(seconds: float, say: Say) -> None:
    """Stop Ray within these seconds and end the process, unless an error is being raised."""

    def stop() -> None:
        try:
            ray_serve.shutdown()  # type: ignore[no-untyped-call]
        finally:
            ray.shutdown()

    # In a thread: Ray waits without limit for its own processes, even for those that a signal has ended.
    stopping = threading.Thread(target=stop, daemon=True)
    stopping.start()
    deadline = time.monotonic() + seconds
    while stopping.is_alive() and time.monotonic() < deadline:
        _ignore_further_signals()  # Ray removes all handlers when it stops
        stopping.join(0.02)
    error = sys.exception()
    if stopping.is_alive():
        if error is not None:
            say(f"Error: {error}")
        say(f"Ray has not stopped within {seconds:g} s; it ends with this process.")
    elif error is not None:
        return
    # A normal exit would wait for Ray again, and a second SIGTERM would set the exit code.
    os._exit(0 if error is None else 1)
