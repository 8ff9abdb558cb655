"""A catalogue in shards on a Ray cluster: an actor for each shard, which opens that shard's graph alone.

Every node must see the bundle under the same path (a shared file system). The process that asks opens
`merge.onnx`. An actor that dies is started anew where there is room, and is asked again.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from serve.errors import ClusterError, ServeError
from serve.processes.ray_cluster import connected
from serve.runtime.batching import Top
from serve.runtime.ranker import has_ratings
from serve.runtime.recommender import Recommender

MAX_RESTARTS = 3
"""Of an actor. More have a lasting cause, such as too little memory."""


class RayShard:
    """The actor: one graph of a bundle."""

    def __init__(self, bundle: str, graph: str, threads: int) -> None:
        opened = Recommender.load(bundle, "cpu", threads=threads, share_tables=True)
        self._ranker = opened.graph_ranker(graph)

    def rank(self, user_index: np.ndarray, exclude: np.ndarray) -> Top:
        """See Ranker."""
        return self._ranker.rank(user_index, exclude)


class ActorRanker(NamedTuple):
    """A `Ranker` that asks an actor."""

    graph: str
    has_ratings: bool
    """See `Ranker`."""
    actor: Any

    def rank(self, user_index: np.ndarray, exclude: np.ndarray) -> Top:
        """See Ranker. Raises ClusterError: the actor fails, or has died too often."""
        import ray

        try:
            top: Top = ray.get(self.actor.rank.remote(user_index, exclude))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ServeError | OSError):
                raise error.cause from None
            raise ClusterError(f"{self.graph} fails: {str(error).strip().splitlines()[-1]}") from error
        except ray.exceptions.RayError as error:
            raise ClusterError(f"the actor of {self.graph} has died: {str(error).splitlines()[0]}") from error
        return top


@contextmanager
def shards_on_ray(
    recommender: Recommender, address: str | None = None, *, cpus_per_shard: float = 1
) -> Iterator[Recommender]:
    """The same bundle, its shards ranked by actors until the block ends.

    Args:
        recommender: A bundle in shards; none of its shards is opened here.
        address: A running cluster ("auto" or HOST:PORT); None: one is started on this machine.
        cpus_per_shard: CPUs of each actor, from which it takes its threads.

    Raises:
        ClusterError: there is no cluster, or it has too few CPUs.
        UnsupportedError: the bundle is not in shards.
        BundleError: a shard does not answer as its conformance cases say.
    """
    names = recommender.shards
    with connected(address) as ray, ThreadPoolExecutor(len(names)) as pool:
        n_cpus = ray.cluster_resources().get("CPU", 0)
        if n_cpus < len(names) * cpus_per_shard:
            raise ClusterError(
                f"{len(names)} shards with {cpus_per_shard:g} CPUs each do not fit the {n_cpus:g} CPUs of "
                f"the cluster. Add nodes, or give each shard less."
            )
        actor = ray.remote(RayShard).options(
            num_cpus=cpus_per_shard,
            max_restarts=MAX_RESTARTS,
            max_task_retries=MAX_RESTARTS,
            scheduling_strategy="SPREAD",
        )
        path, threads = str(recommender.bundle.path), max(1, int(cpus_per_shard))
        actors = [actor.remote(path, name, threads) for name in names]
        try:
            rankers = [
                ActorRanker(name, has_ratings(recommender.manifest, name), one)
                for name, one in zip(names, actors, strict=True)
            ]
            yield recommender.with_shards(rankers, pool.map)
        finally:
            for one in actors:
                ray.kill(one)
