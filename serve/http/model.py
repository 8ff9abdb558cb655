"""The model that answers now. One reference, swapped whole: a request takes it once and keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from serve.bundle.conformance import check_conformance
from serve.http.batcher import Batcher
from serve.runtime.recommender import Recommender
from serve.runtime.session import Device

T = TypeVar("T")


class Compute(Protocol):
    """Gives the result of `work`, done on the event loop or beside it."""

    async def __call__(self, work: Callable[[], T], /) -> T:
        """See the class."""


# A recommendation over this many items takes about a millisecond. Up to here it is computed on the event
# loop: a hop to a thread and back would cost more than it frees. Beyond, others should not have to wait.
INLINE_ITEMS = 50_000


@dataclass(frozen=True, eq=False)
class Model:
    """A bundle that has been loaded, checked and warmed up."""

    recommender: Recommender
    version: str
    """SHA-256 of the manifest, and so of every file."""
    titles: list[str | None]
    """By item index; None at 0, and where the data has no title."""
    n_golden_cases: int

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
        """Does work that takes no longer than one recommendation does."""
        return _at_once if self.is_quick else asyncio.to_thread

    @cached_property
    def batcher(self) -> Batcher:
        """Where recommendations that wait are gathered."""
        return Batcher(self.recommender, self.compute)

    async def compute_in_turn(self, work: Callable[[], T]) -> T:
        """The same, after every request that has arrived by now has been counted."""
        await asyncio.sleep(0)
        return await self.compute(work)


async def _at_once(work: Callable[[], T]) -> T:
    return work()


def load_model(
    folder: Path, device: Device, threads: int | None = None, *, share_tables: bool = False
) -> Model:
    """Load the bundle in `folder`, check it, and touch every part that a request needs.

    The checks are those of `open_bundle` (every checksum) and every conformance case, on the device that will
    serve. What a first request would otherwise wait for is loaded here.

    Raises:
        BundleError: it is not whole, or does not answer as its conformance cases say.
        DeviceError: device="cuda", and it is not really there.
    """
    recommender = Recommender.load(folder, device, threads=threads, share_tables=share_tables)
    n_cases = check_conformance(recommender.bundle, recommender.run_graph)
    recommender.recommend(recommender.users.one_id(1), 1)
    recommender.items.ids.lookup_one(recommender.items.ids.one_id(1))
    recommender.items.search("warm")
    titles = [None, *recommender.items.titles]
    return Model(recommender, recommender.bundle.version, titles, n_cases)


class CurrentModel:
    """Holds the model that answers; None until the first one has been loaded."""

    def __init__(self, model: Model | None = None) -> None:
        self.model = model
        self.watchers: list[Callable[[Model], None]] = []
        """Called with each model that starts to answer."""
        self.draining = False
        """Whether the process is about to stop: it still answers, but is no longer ready."""

    def swap(self, model: Model) -> None:
        """From the next request on, `model` answers. Requests at work keep the one that they took."""
        self.model = model
        for watch in self.watchers:
            watch(model)


def card(model: Model) -> dict[str, Any]:
    """What the manifest says of the model: for `/v1/model`."""
    manifest, recommender = model.recommender.manifest, model.recommender
    return {
        "model_version": model.version,
        "device": recommender.device,
        "kind": manifest.model.kind,
        "n_users": manifest.model.n_users,
        "n_items": manifest.model.n_items,
        "n_factors": manifest.model.n_factors,
        "score_range": manifest.model.score_range,
        "data": {
            "name": manifest.data.name,
            "sha256": manifest.data.sha256,
            "n_ratings": manifest.data.n_ratings,
            "ratings_range": manifest.data.ratings_range,
            "licence": manifest.data.licence,
        },
        "id_types": {
            "user_id": "string" if recommender.users.is_string else "integer",
            "item_id": "string" if recommender.items.ids.is_string else "integer",
        },
        "split": manifest.split,
        "metrics": manifest.metrics,
        "largest_top_k": {
            name: graph.top_k for name, graph in manifest.graphs.items() if graph.top_k is not None
        },
        "golden_cases": model.n_golden_cases,
    }
