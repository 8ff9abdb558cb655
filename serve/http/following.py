"""Following the pointer: each process looks, loads a new bundle beside the old one, checks it, and swaps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from serve.errors import BundleError, ServeError
from serve.http.model import CurrentModel, LoadedModel, load_model
from serve.http.pointer import resolve, stamp
from serve.http.run_folder import ServiceFolder
from serve.http.settings import ServiceSettings

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
# An error may quote text from the bundle.
MAX_ERROR_CHARACTERS = 1000


class Follower:
    """Keeps a `CurrentModel` at the bundle that the pointer names.

    A bundle that can't be loaded changes nothing. It is tried again when the pointer or a file of the bundle
    has changed. `run_folder` stores the last good bundle; None: nothing does.
    """

    def __init__(
        self, settings: ServiceSettings, current: CurrentModel, run_folder: ServiceFolder | None = None
    ) -> None:
        self.settings, self.current, self.run_folder = settings, current, run_folder
        self._stamps: dict[Path, object] = {}
        self._error: ServeError | None = None

    async def start(self) -> None:
        """Load a first bundle: the pointer's or, if that is bad, the last good one of this service.

        Returns when one is loaded, however long that takes, because a worker that can't answer leaves its
        requests to the others.

        Raises:
            ServeError: the pointer's bundle is bad, and this service has not had a good one.
        """
        while not await self._look(self.settings.bundle):
            if self.run_folder is not None:
                last_good = self.run_folder.last_good()
                if last_good is None and self._error is not None:
                    raise self._error
                if last_good is not None and await self._look(last_good):
                    return
            await asyncio.sleep(LOOK_SECONDS)

    async def follow(self) -> None:
        """Look every second until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look(self.settings.bundle)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Load a first bundle, and follow the pointer while the app runs."""
        await self.start()
        task = asyncio.create_task(self.follow())
        yield
        task.cancel()

    async def _look(self, path: Path) -> bool:
        """Load the bundle at `path`, unless it is as at the last try; returns whether it answers."""
        found = await asyncio.to_thread(stamp, path)
        if found == self._stamps.get(path):
            return False
        self._stamps[path] = found
        try:
            model = await asyncio.to_thread(self._load, path)
        except Exception as error:  # noqa: BLE001  a damaged bundle may fail in any way; the service goes on
            self._failed(error)
            return False
        if path == self.settings.bundle:
            self.current.last_error = None
        if self.current.model is not None:
            logger.info("version %s answers from now on", model.version)
        self.current.swap(model)
        return True

    def _load(self, path: Path) -> LoadedModel:
        settings = self.settings
        folder = resolve(path)
        model = load_model(
            folder,
            settings.device,
            settings.threads,
            share_tables=settings.share_tables,
            exact=settings.exact,
            tf32=settings.tf32,
            public_key=settings.public_key,
        )
        if self.run_folder is not None:
            self.run_folder.note_good(folder)
        return model

    def _failed(self, error: Exception) -> None:
        if isinstance(error, ServeError):
            self._error = error
        else:
            logger.error("the bundle can't be loaded", exc_info=error)
            self._error = BundleError(f"{type(error).__name__}: {error}")
        message = str(self._error)[:MAX_ERROR_CHARACTERS]
        logger.error("bundle not loaded, nothing changes: %s", message)
        # /health/ready needs no token, so it does not show where the bundles are.
        self.current.last_error = message.replace(f"{self.settings.bundle.parent}/", "")
        self.current.metrics.load_failures.inc()
