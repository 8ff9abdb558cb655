"""The same app under Ray Serve: replicas on the nodes of a cluster, behind Ray's own proxy.

The bundle must lie at the same path on every node. Each replica loads and checks it by itself; a reload goes
through Ray's `reconfigure`, which keeps the replicas and their old model until the new one is ready.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serve.processes.ray_cluster import connect

# isort: split
import ray
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions
from starlette.types import ASGIApp

from serve.errors import BundleError, ServeError
from serve.http.app import create_app
from serve.http.model import CurrentModel, Model, load_model
from serve.http.pointer import resolve
from serve.http.settings import Settings
from serve.processes.signals import Signals

logger = logging.getLogger(__name__)

APP_NAME = "recsys"
# The app itself sheds what is too much, in its own words; Ray must let it through to be told.
ONGOING_PER_SLOT = 4
# Beside the grace time of the replicas: what Ray takes for the rest.
STOP_SECONDS = 20

STOPPING = (signal.SIGTERM, signal.SIGINT)

Say = Callable[[str], None]


@ray_serve.ingress()
class Replica:
    """One replica: the app, and the model that it answers from."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = Settings.from_dict(settings)
        self.current = CurrentModel()

    async def reconfigure(self, config: dict[str, str]) -> None:
        """Ray calls this at the start, and with every new bundle; requests go on meanwhile."""
        before = self.current.model
        if before is not None and before.version == config["version"]:
            return
        folder, settings = Path(config["bundle"]), self.settings
        model = await asyncio.to_thread(load_model, folder, settings.device, settings.threads)
        if model.version != config["version"]:  # it was written to since, or this node has another one
            wrong = f"{folder} is version {model.version} here, not {config['version']}"
            if before is not None:
                raise BundleError(f"{wrong}.")
            logger.warning("%s: this replica answers from it all the same", wrong)
        self.current.swap(model)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return create_app(self.settings, self.current)


def run_on_ray(
    settings: Settings, *, host: str, port: int, n_replicas: int, address: str | None, say: Say
) -> None:
    """Serve until SIGTERM or Ctrl-C, and end the process; reload on SIGHUP.

    Args:
        settings: Of every replica.
        host: The address at which Ray's proxy listens.
        port: Its port.
        n_replicas: How many answer.
        address: A cluster to join; None starts one on this machine.
        say: Takes one line for whoever watches.

    Raises:
        BundleError, DeviceError: the bundle that is there at the start can't be served.
        ClusterError: there is no such cluster.
    """
    model = _checked(settings)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    connect(address)
    # After Ray's, which sets handlers of its own.
    signals = Signals(signal.SIGHUP)
    code = secrets.token_hex(8)

    def leave(received: int, frame: object) -> None:
        """Of a start that may take for ever."""
        signals.take(*STOPPING)  # one more is no news
        sys.exit()

    for number in STOPPING:
        signal.signal(number, leave)
    try:
        ray_serve.start(http_options=HTTPOptions(host=host, port=port))
        _deploy(settings, n_replicas, model, code)
        signals.take(*STOPPING)
        say(f"Serving {settings.bundle} on http://{host}:{port}: version {model.version}, under Ray Serve.")
        while (received := signals.next()) == signal.SIGHUP:
            model = _reloaded(settings, n_replicas, model, code, say)
        say(f"Stopping ({received.name}).")
    except SystemExit:
        say("Stopping: the service had not finished starting.")
    finally:
        _stop(settings.grace_seconds + STOP_SECONDS, signals, say)


def _reloaded(settings: Settings, n_replicas: int, model: Model, code: str, say: Say) -> Model:
    """The model that the replicas have after a reload: the new one, or, where that is bad, the old one."""
    try:
        new = _checked(settings)
    except ServeError as error:
        say(f"Not reloaded, nothing was changed: {error}")
        return model
    try:
        _deploy(settings, n_replicas, new, code)
    except RuntimeError:  # some replica can't load what could be loaded here
        logger.exception("the replicas did not take %s", new.path)
        say(f"Not reloaded: a replica could not load {new.path}; the log says why. Going back.")
        try:
            _deploy(settings, n_replicas, model, code)
        except RuntimeError:  # its folder has gone, say; those that have it in memory still answer from it
            logger.exception("the replicas did not go back to %s", model.path)
        return model
    say(f"Reloaded: version {new.version}.")
    return new


def _stop(seconds: float, signals: Signals, say: Say) -> None:
    """Stop what was started here, within these seconds, and end the process; an error is left to be told.

    Ray waits for its own processes for ever, dead ones too: those of a service manager that signals them all.
    It also takes down every handler. One more SIGTERM is to change nothing, so they are put back soon.
    """

    def stop() -> None:
        try:
            ray_serve.shutdown()  # type: ignore[no-untyped-call]
        finally:
            ray.shutdown()

    stopping = threading.Thread(target=stop, daemon=True)
    stopping.start()
    deadline = time.monotonic() + seconds
    while stopping.is_alive() and time.monotonic() < deadline:
        signals.take(*STOPPING)
        stopping.join(0.02)
    error = sys.exception()
    if stopping.is_alive():
        if error is not None:
            say(f"Error: {error}")
        say(f"Ray has not stopped within {seconds:g} s, and is left to end with this process.")
    elif error is not None:
        return
    # At its own end the interpreter would wait for Ray again, and one more SIGTERM would be its exit code.
    os._exit(0 if error is None else 1)


def _checked(settings: Settings) -> Model:
    """The bundle that the pointer leads to now, loaded here once, so that a bad one reaches no replica."""
    return load_model(resolve(settings.bundle), settings.device, settings.threads)


def _deploy(settings: Settings, n_replicas: int, model: Model, code: str) -> None:
    """Start the replicas, or have those that are there change over; returns when all have.

    Ray asks those of the same `code` to reconfigure, and replaces others.
    """
    deployment_of: Any = ray_serve.deployment
    deployment = deployment_of(
        Replica,
        name=APP_NAME,
        num_replicas=n_replicas,
        max_ongoing_requests=settings.max_concurrency * ONGOING_PER_SLOT,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=settings.grace_seconds,
        ray_actor_options={
            "num_cpus": settings.threads or 1,
            "num_gpus": 1 if model.recommender.device == "cuda" else 0,
        },
        user_config={"bundle": str(model.path), "version": model.version},
    ).options(
        version=code, _internal=True
    )  # the public API takes a new version each time, which replaces replicas
    ray_serve.run(deployment.bind(settings.to_dict()), name=APP_NAME, route_prefix="/")
