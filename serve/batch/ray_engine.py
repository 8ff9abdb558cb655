"""Fragments on the workers of a Ray cluster: Ray places the workers and carries messages, nothing else.

Each worker is an actor that loads the bundle once and is given one fragment at a time. Fragments commit their
parts themselves, so Ray Data, whose writes are not atomic, is not needed. Every node must see the bundle, the
input and the output under the same paths (a shared file system).

A worker that dies, alone or with its node, is replaced wherever there is room, and its fragment is run again:
it gives the same bytes, even if the dead worker had finished it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from serve.batch.fragments import Engine, FragmentRunner, Outcome, load
from serve.batch.job import Fragment, Plan
from serve.errors import JobError, ServeError
from serve.processes.ray_cluster import connected
from serve.runtime.recommender import Recommender

LOOK_EVERY = 5.0
"""Seconds to wait for a task before the nodes are checked."""
MAX_DEATHS = 3
"""For each worker. More have a lasting cause, such as too little memory."""


class RayWorker:
    """The actor: a loaded bundle, and fragments one after another."""

    def __init__(self, plan: Plan, folder: Path, threads: int) -> None:
        self._given = plan, folder, threads

    def load(self) -> str:
        """Load the bundle; returns the id of the node."""
        import ray

        plan, folder, threads = self._given
        self._runner = FragmentRunner(plan, folder, load(plan.job, plan.device), threads)
        return str(ray.get_runtime_context().get_node_id())

    def run(self, fragment: Fragment) -> Outcome:
        """See FragmentRunner."""
        return self._runner.run(fragment)


def ray_engine(address: str | None, workers: int | None, gpus_per_worker: float) -> Engine:
    """An `Engine` on a Ray cluster.

    Args:
        address: A running cluster ("auto" or HOST:PORT); None: one is started on this machine for this job.
        workers: Their number; None: one for each node that has room, or more where the input is worth it.
        gpus_per_worker: GPUs of each worker; 0: workers compute on the CPU.
    """

    def run(
        plan: Plan,
        fragments: Sequence[Fragment],
        folder: Path,
        recommender: Recommender,
        on_rows: Callable[[int], None],
    ) -> Generator[Outcome]:
        if not fragments:
            return
        with connected(address) as ray:
            for outcome in _outcomes(ray, plan, fragments, folder, workers, gpus_per_worker):
                on_rows(outcome.rows_in)
                yield outcome

    return run


def shares(
    nodes: Sequence[Mapping[str, float]],
    n_parts: int,
    workers: int | None,
    gpus: float,
    default_workers: Callable[[int], int] = lambda cpus: 1,
) -> tuple[int, int]:
    """The number of workers, and the CPUs of each: as many as leave room for all of them.

    Args:
        nodes: The resources of each node.
        n_parts: More workers than these would have nothing to do.
        workers: How many were asked for; None: one for each node that has room, or `default_workers`.
        gpus: GPUs that each worker needs, besides a CPU.
        default_workers: Number of CPUs -> how many workers the job is worth.

    Raises:
        JobError: there is no room for them, now or later.
    """

    def room(threads: int) -> list[int]:
        """Workers that fit on each node."""
        fit = [int(node.get("CPU", 0)) // threads for node in nodes]
        return [
            min(n, int(node.get("GPU", 0) / gpus)) if gpus else n for n, node in zip(fit, nodes, strict=True)
        ]

    most = sum(room(1))
    if not most:
        needed = f"a CPU and {gpus:g} GPUs" if gpus else "a CPU"
        raise JobError(
            f"a worker needs {needed}, and no node of the cluster has that. Add such nodes, with "
            f"`ray start --num-cpus N --num-gpus N`."
        )
    if workers and workers > most and n_parts > most:
        raise JobError(
            f"{workers} workers were asked for, and the cluster has room for {most}. Take fewer, or add "
            f"nodes."
        )
    n_workers = min(workers or max(sum(n > 0 for n in room(1)), default_workers(most)), n_parts)
    threads = max(int(node.get("CPU", 0)) for node in nodes)
    while sum(room(threads)) < n_workers:
        threads -= 1
    return n_workers, threads


def _outcomes(
    ray: Any, plan: Plan, fragments: Sequence[Fragment], folder: Path, workers: int | None, gpus: float
) -> Iterator[Outcome]:
    """Outcomes as they come. Raises the ServeError of a worker, or JobError: workers die repeatedly."""
    if gpus and plan.device == "cpu":
        raise JobError(
            "the workers would have GPUs and compute on the CPU: start the job where there is a GPU, "
            "with --device cuda, or leave out --gpus-per-worker."
        )
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    # On GPUs there is one worker for each node unless the caller asks for more.
    n_bytes = sum(file.bytes for file in plan.files) if plan.device == "cpu" else 0
    default_workers = partial(plan.job.default_workers, n_bytes)
    n_workers, threads = shares(nodes, len(plan.fragments), workers, gpus, default_workers)
    actor = ray.remote(RayWorker).options(
        num_cpus=threads, num_gpus=gpus, max_restarts=0, scheduling_strategy="SPREAD"
    )
    waiting, deaths = list(reversed(fragments)), 0
    alive: list[Any] = []
    idle: list[Any] = []
    # The task of each worker: a fragment, or loading (None), which may have to wait for room.
    running: dict[Any, tuple[Fragment | None, Any]] = {}
    node_of: dict[Any, str] = {}

    def start() -> None:
        worker = actor.remote(plan, folder, threads)
        alive.append(worker)
        running[worker.load.remote()] = None, worker

    try:
        for _ in range(n_workers):
            start()
        while waiting or any(fragment for fragment, _ in running.values()):
            done, _ = ray.wait(list(running), timeout=LOOK_EVERY)
            if not done:  # a task on a node that has died may never return
                dead = {node["NodeID"] for node in ray.nodes() if not node["Alive"]}
                done = [task for task, (_, worker) in running.items() if node_of.get(worker) in dead]
            for task in done:
                fragment, worker = running.pop(task)
                try:
                    result = ray.get(task, timeout=LOOK_EVERY)
                except ray.exceptions.RayTaskError as error:
                    if isinstance(error.cause, ServeError | OSError):
                        raise error.cause from None
                    last = str(error).strip().splitlines()[-1]
                    raise JobError(f"a worker failed: {last}") from error
                except ray.exceptions.RayError as error:  # the worker or its node has died
                    deaths += 1
                    if deaths > MAX_DEATHS * n_workers:
                        last = str(error).splitlines()[0]
                        raise JobError(
                            f"{deaths} workers have died, the last with: {last} What is finished is "
                            f"kept: look at memory and disks, then go on with --resume."
                        ) from None
                    waiting += [fragment] if fragment else []
                    alive.remove(worker)
                    start()
                    continue
                if fragment:
                    yield result
                else:
                    node_of[worker] = result
                idle.append(worker)
            while waiting and idle:
                fragment, worker = waiting.pop(), idle.pop()
                running[worker.run.remote(fragment)] = fragment, worker
    finally:
        for worker in alive:
            ray.kill(worker)
