"""Fragments on the workers of a Ray cluster: Ray places the workers and carries messages, nothing else.

Ray Data would read, batch and write by itself, and its writes are not atomic; here, a fragment is already the
unit of work and its part is committed by our own protocol, so a pool of actors that are given one fragment at
a time is all that is needed. Every node must see the bundle, the input and the output under the same paths (a
shared file system).

A worker makes its own session, once. One that dies, alone or with its node, is replaced wherever there is
room, and its fragment is done again: the same bytes, so nobody minds if the dead one had finished it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from serve.batch.engine import Engine
from serve.batch.fragments import FragmentRunner, Outcome, load
from serve.batch.job import Fragment, Plan
from serve.errors import JobError, ServeError
from serve.processes.ray_cluster import connect
from serve.runtime.recommender import Recommender

LOOK_EVERY = 5.0
"""Seconds."""
MAX_DEATHS = 3
"""Of each worker. If more die, it is not chance that kills them, but want of memory, say."""


class RayWorker:
    """One actor: the bundle, loaded once, and fragments one after another."""

    def __init__(self, plan: Plan, folder: Path, threads: int) -> None:
        self._given = plan, folder, threads

    def load(self) -> str:
        """Get ready: the id of the node."""
        import ray

        plan, folder, threads = self._given
        self._runner = FragmentRunner(plan, folder, load(plan.job.bundle, plan.device), threads)
        return str(ray.get_runtime_context().get_node_id())

    def run(self, fragment: Fragment) -> Outcome:
        """See FragmentRunner."""
        return self._runner.run(fragment)


def ray_engine(address: str | None, workers: int | None, gpus_per_worker: float) -> Engine:
    """An engine for `serve.batch.run.run_job`.

    Args:
        address: Of a running cluster ("auto" or HOST:PORT); None: one is started here, for this job only.
        workers: How many; None: one for each node that has room, or more where that is worth their start.
        gpus_per_worker: What each needs; a worker without uses CPUs.
    """

    def run(
        plan: Plan,
        fragments: Sequence[Fragment],
        folder: Path,
        recommender: Recommender,
        on_rows: Callable[[int], None],
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        if not fragments:
            return
        with _connected(address) as ray:
            pool = _Pool(ray, plan, folder, workers, gpus_per_worker)
            for outcome in pool.run(fragments):
                on_rows(outcome.rows_in)
                on_outcome(outcome)

    return run


def shares(
    nodes: Sequence[Mapping[str, float]],
    n_parts: int,
    workers: int | None,
    gpus: float,
    worth_while: Callable[[int], int] = lambda cpus: 1,
) -> tuple[int, int]:
    """How many workers there will be, and the CPUs of each: as many as leave room for all of them.

    Args:
        nodes: The resources of each.
        n_parts: More workers than these would have nothing to do.
        workers: How many were asked for; None: one for each node that has room.
        gpus: What each worker needs, besides a CPU.
        worth_while: How many the job is worth on so many CPUs, where none were asked for.

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
    n_workers = min(workers or max(sum(n > 0 for n in room(1)), worth_while(most)), n_parts)
    threads = max(int(node.get("CPU", 0)) for node in nodes)
    while sum(room(threads)) < n_workers:
        threads -= 1
    return n_workers, threads


class _Pool:
    """Workers that are each given the next fragment when they are done with one."""

    def __init__(self, ray: Any, plan: Plan, folder: Path, workers: int | None, gpus: float) -> None:
        if gpus and plan.device == "cpu":
            raise JobError(
                "the workers would have GPUs and compute on the CPU: start the job where there is a GPU, "
                "with --device cuda, or leave out --gpus-per-worker."
            )
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        # A GPU is for one worker, unless the job's user says otherwise.
        n_bytes = sum(file.bytes for file in plan.files) if plan.device == "cpu" else 0
        worth_while = partial(plan.job.workers_worth_while, n_bytes)
        n_workers, threads = shares(nodes, len(plan.fragments), workers, gpus, worth_while)
        self._ray = ray
        actor = ray.remote(RayWorker).options(
            num_cpus=threads, num_gpus=gpus, max_restarts=0, scheduling_strategy="SPREAD"
        )
        self._start: Callable[[], Any] = lambda: actor.remote(plan, folder, threads)
        self._workers = [self._start() for _ in range(n_workers)]

    def run(self, fragments: Sequence[Fragment]) -> Iterator[Outcome]:
        """Outcomes as they come.

        Raises:
            ServeError: what a worker raised; the others are stopped.
            JobError: workers die again and again.
        """
        waiting, deaths = list(reversed(fragments)), 0
        # What each worker is at: a fragment, or getting ready (None), which may have to wait for room.
        running: dict[Any, tuple[Fragment | None, Any]] = {
            worker.load.remote(): (None, worker) for worker in self._workers
        }
        node_of: dict[Any, str] = {}
        idle: list[Any] = []
        try:
            while waiting or any(fragment for fragment, _ in running.values()):
                done, _ = self._ray.wait(list(running), timeout=LOOK_EVERY)
                if not done:
                    # A task whose whole node has died may never return, so nodes are looked at, too.
                    done = self._on_dead_nodes(running, node_of)
                for reference in done:
                    fragment, worker = running.pop(reference)
                    try:
                        result = self._ray.get(reference, timeout=LOOK_EVERY)
                    except self._ray.exceptions.RayTaskError as error:
                        if isinstance(error.cause, ServeError | OSError):
                            raise error.cause from None
                        last = str(error).strip().splitlines()[-1]
                        raise JobError(f"a worker failed: {last}") from error
                    except self._ray.exceptions.RayError as error:  # dead, alone or with its node, or killed
                        deaths += 1
                        if deaths > MAX_DEATHS * len(self._workers):
                            last = str(error).splitlines()[0]
                            raise JobError(
                                f"{deaths} workers have died, the last with: {last} What is finished is "
                                f"kept: look at memory and disks, then go on with --resume."
                            ) from None
                        waiting += [fragment] if fragment else []
                        self._workers.remove(worker)
                        worker = self._start()
                        self._workers.append(worker)
                        running[worker.load.remote()] = None, worker
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
            for worker in self._workers:
                self._ray.kill(worker)

    def _on_dead_nodes(
        self, running: dict[Any, tuple[Fragment | None, Any]], node_of: dict[Any, str]
    ) -> list[Any]:
        dead = {node["NodeID"] for node in self._ray.nodes() if not node["Alive"]}
        return [reference for reference, (_, worker) in running.items() if node_of.get(worker) in dead]


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected; left as it was."""
    import ray

    ours = not ray.is_initialized()
    if ours:
        connect(address)
    try:
        # Ray tells of dead workers on the standard output, which is for what the job says.
        with contextlib.redirect_stdout(sys.stderr):
            yield ray
    finally:
        if ours:
            ray.shutdown()
