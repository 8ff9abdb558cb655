"""The model that answers now. One reference, swapped whole: a request takes it once and keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

from serve.http.batching import Batcher
from serve.http.metrics import Metrics
from serve.runtime.recommender import Recommender
from serve.runtime.session import Device

T = TypeVar("T")


class Compute(Protocol):
    """Returns the result of `work`, which runs on the event loop or in a thread."""

    async def __call__(self, work: Callable[[], T], /) -> T:
        """See the class."""


# A recommendation over this many items takes about a millisecond. Up to here it is computed on the event
# loop: a hop to a thread and back would cost more than it frees. Beyond, others should not have to wait.
INLINE_ITEMS = 50_000


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A bundle that has been loaded, checked and warmed up."""

    recommender: Recommender
    version: str
    """SHA-256 of the manifest, and so of every file."""
    titles: list[str | None]
    """By item index; None at 0, and where the data has no title."""
    n_conformance_cases: int

    @property
    def path(self) -> Path:
        """The bundle's own folder."""
        return self.recommender.bundle.path

    @property
    def is_quick(self) -> bool:
        """Whether answers are computed on the event loop rather than in a thread."""
        return self.recommender.device == "cpu" and len(self.titles) <= INLINE_ITEMS

    @cached_property
    def compute(self) -> Compute:
        """Runs work that takes no longer than one recommendation does."""
        return _at_once if self.is_quick else asyncio.to_thread

    @cached_property
    def batcher(self) -> Batcher:
        """Computes recommendations that wait at the same time together."""
        return Batcher(self.recommender, self.compute)

    async def compute_in_turn(self, work: Callable[[], T]) -> T:
        """As `compute`, after every request that has arrived by now has been counted."""
        await asyncio.sleep(0)
        return await self.compute(work)


async def _at_once(work: Callable[[], T]) -> T:
    return work()


def load_model(
    folder: Path, device: Device, threads: int | None = None, *, share_tables: bool = False
) -> LoadedModel:
    """Load the bundle in `folder`, check it, and touch every part that a request needs.

    The checks are those of `open_bundle` (every checksum) and every conformance case, on the device that will
    serve. What a first request would otherwise wait for is loaded here.

    Raises:
        BundleError: it is not whole, or does not answer as its conformance cases say.
        DeviceError: device="cuda", and it is not really there.
    """
    recommender = Recommender.load(folder, device, threads=threads, share_tables=share_tables)
    n_cases = recommender.check()
    recommender.recommend(recommender.users.one_id(1), 1)
    recommender.items.ids.lookup_one(recommender.items.ids.one_id(1))
    recommender.items.search("warm")
    titles = [None, *recommender.items.titles]
    return LoadedModel(recommender, recommender.bundle.version, titles, n_cases)


class CurrentModel:
    """The model that answers, None until one has been loaded, and the state of the process around it."""

    def __init__(self, model: LoadedModel | None = None) -> None:
        self.metrics = Metrics()
        self.model: LoadedModel | None = None
        self.last_error: str | None = None
        """Why what the pointer leads to does not answer; None where it does."""
        self.is_leaving = False
        """Whether this process is about to end: it still answers, and closes its connections."""
        self.is_draining: Callable[[], bool] = lambda: self.is_leaving
        """Whether the service is about to end: it still answers, but is no longer ready."""
        if model is not None:
            self.swap(model)

    def swap(self, model: LoadedModel) -> None:
        """From the next request on, `model` answers. Requests at work keep the one that they took."""
        self.model = model
        self.metrics.model_swapped(model.version, model.recommender.device)
