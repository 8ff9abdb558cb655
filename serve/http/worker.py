"""The app of one worker process, which uvicorn starts and stops.

The process loads a bundle before it answers, follows the pointer, and drains before it stops.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType

from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from serve.errors import ServeError
from serve.http.app import create_app
from serve.http.following import LOOK_SECONDS, Follower
from serve.http.metrics import FOLDER_VARIABLE
from serve.http.model import CurrentModel
from serve.http.run_folder import ServiceFolder
from serve.http.settings import ServiceSettings
from serve.terminal import say

SETTINGS_VARIABLE = "RECSYS_SERVICE"


def create_worker_app() -> FastAPI:
    """The app with the settings in the environment; uvicorn calls this in each worker."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("serve").setLevel(logging.INFO)
    settings = ServiceSettings.from_json(os.environ[SETTINGS_VARIABLE])
    run_folder = ServiceFolder(Path(os.environ[FOLDER_VARIABLE]))
    current = CurrentModel()
    current.is_draining = lambda: current.is_leaving and run_folder.stopping.exists()
    follower = Follower(settings, current, run_folder)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Until a bundle is loaded there are no requests to finish: a signal ends the process at once.
        at_stop = {
            number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGINT)
        }
        # A closing terminal sends it to every process; only the supervisor acts on it.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # A full garbage collection takes 40 ms: it skips what is loaded by now and runs less often, as
        # requests leave few cycles behind.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000)
        try:
            await follower.start()
        except ServeError as error:
            run_folder.note_failure(error)
            os._exit(STARTUP_FAILURE)  # uvicorn then stops, and `run_service` raises the error
        for number, handler in at_stop.items():
            signal.signal(number, handler)
        _drain_on_sigterm(settings.drain_seconds, current)
        if run_folder.claim_announcement():
            assert current.model is not None
            model = current.model
            say(
                f"Serving {settings.bundle} on {settings.url}: version {model.version}, "
                f"on {model.recommender.device}."
            )
        tasks = [asyncio.create_task(follower.follow()), asyncio.create_task(_end_with_parent(run_folder))]
        yield
        for task in tasks:
            task.cancel()

    return create_app(settings, current, lifespan)


def _drain_on_sigterm(seconds: float, current: CurrentModel) -> None:
    """On SIGTERM, answer for some more seconds before uvicorn's own handler stops the server."""
    stop = signal.getsignal(signal.SIGTERM)
    assert callable(stop)
    loop = asyncio.get_running_loop()

    def drain() -> None:
        current.is_leaving = True
        loop.call_later(seconds, stop, signal.SIGTERM, None)

    def leave(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(drain)

    signal.signal(signal.SIGTERM, leave)


async def _end_with_parent(run_folder: ServiceFolder) -> None:
    """Stop this process when the supervisor has been killed; it would keep the port in use."""
    parent = multiprocessing.parent_process()
    while parent is None or parent.is_alive():
        await asyncio.sleep(LOOK_SECONDS)
    shutil.rmtree(run_folder.path, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)
