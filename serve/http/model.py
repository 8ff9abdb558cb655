"""The loaded model, and the reference to it, which a new bundle replaces as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from serve.bundle.shards import MERGE, SHARD, role
from serve.bundle.signature import check_signature
from serve.http.batching import Batcher, Compute
from serve.http.metrics import Metrics
from serve.runtime.recommender import Recommender
from serve.runtime.session import Device

T = TypeVar("T")


# A recommendation over this many items takes about a millisecond. Up to here it is computed on the event
# loop, as switching to a thread and back costs more than it saves; beyond, it would delay other requests.
INLINE_ITEMS = 50_000


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A bundle that is loaded, checked and warmed up."""

    recommender: Recommender
    version: str
    """SHA-256 of the manifest, which has the checksum of every file."""
    titles: list[str | None]
    """By item index; None at 0, and for items without a title."""
    n_conformance_cases: int

    @cached_property
    def compute(self) -> Compute:
        """Runs a function that takes about as long as one recommendation."""
        is_quick = self.recommender.device == "cpu" and len(self.titles) <= INLINE_ITEMS
        return _at_once if is_quick else asyncio.to_thread

    @cached_property
    def batcher(self) -> Batcher:
        """Computes concurrent recommendations together."""
        return Batcher(self.recommender, self.compute)

    async def compute_in_turn(self, work: Callable[[], T], *, is_long: bool = False) -> T:
        """As `compute`, after the requests that have arrived by now have passed the admission.

        `is_long`: it may take many times as long as a recommendation.
        """
        await asyncio.sleep(0)
        return await (asyncio.to_thread if is_long else self.compute)(work)

    def card(self) -> dict[str, Any]:
        """The content of a `schemas.ModelResponse`."""
        recommender, manifest = self.recommender, self.recommender.manifest
        model, data = manifest.model, manifest.data
        ids = {"user_id": recommender.users, "item_id": recommender.items.ids}
        # A list of "recommend" may come from shards, which nobody asks.
        lengths = {n: graph.top_k for n, graph in manifest.graphs.items() if role(n) not in (SHARD, MERGE)}
        lengths["recommend"] = recommender.largest_k("recommend")
        return {
            "model_version": self.version,
            "device": recommender.device,
            **{
                name: getattr(model, name)
                for name in ("kind", "n_users", "n_items", "n_factors", "score_range", "scores", "lists")
            },
            "parts": [
                {"kind": part.kind, "objective": part.objective, "weight": part.weight}
                for part in model.parts
            ],
            "data": {
                name: getattr(data, name)
                for name in ("name", "sha256", "n_ratings", "ratings_range", "licence")
            },
            "id_types": {name: "string" if table.is_string else "integer" for name, table in ids.items()},
            "split": manifest.split,
            "metrics": manifest.metrics,
            "largest_top_k": {name: k for name, k in lengths.items() if k is not None},
            "conformance_cases": self.n_conformance_cases,
        }


async def _at_once(work: Callable[[], T]) -> T:
    return work()


def load_model(
    folder: Path,
    device: Device,
    threads: int | None = None,
    *,
    share_tables: bool = False,
    exact: bool = False,
    tf32: bool = False,
    public_key: Path | None = None,
) -> LoadedModel:
    """Load the bundle in `folder`, run every conformance case, and warm it up for the first request.

    Raises:
        BundleError: the bundle is incomplete or damaged, fails a conformance case, or is not signed by
            `public_key`, if there is one.
        DeviceError: device="cuda", and there is no such device.
    """
    if public_key is not None:
        check_signature(folder, public_key)
    recommender = Recommender.load(
        folder, device, threads=threads, share_tables=share_tables, exact=exact, tf32=tf32
    )
    n_cases = recommender.check()
    exclude_seen = not recommender.manifest.without_seen
    recommender.recommend(recommender.users.first_id, 1, exclude_seen=exclude_seen)
    recommender.items.ids.lookup_one(recommender.items.ids.one_id(1))
    recommender.items.search("warm")
    titles = [None, *recommender.items.titles]
    return LoadedModel(recommender, recommender.bundle.version, titles, n_cases)


class CurrentModel:
    """The model that answers, and the state of the process around it."""

    def __init__(self, model: LoadedModel | None = None) -> None:
        self.metrics = Metrics()
        self.model: LoadedModel | None = None
        """None until one is loaded."""
        self.last_error: str | None = None
        """Why the bundle that the pointer names is not the one that answers; None: it is."""
        self.is_leaving = False
        """Whether this process is about to end: it still answers, and then closes the connection."""
        self.is_draining: Callable[[], bool] = lambda: self.is_leaving
        """Whether the whole service is about to end: it still answers, but is no longer ready."""
        if model is not None:
            self.swap(model)

    def swap(self, model: LoadedModel) -> None:
        """Let `model` answer from the next request on; requests in progress keep theirs."""
        self.model = model
        self.metrics.model_swapped(model.version, model.recommender.device)
