"""One user's list of ten, items seen left out: `Recommender.recommend` beside implicit's, by items.

    python benchmarks/bench_query.py [--items 10000 100000 1000000] [--rounds 5] [--calls 50]

Random tables of 64 factors, of which trained ones are a harder case for 4 bits. Two threads in each; blocks
of calls in turn, in one process. faiss, where it is installed, ranks exactly and leaves nothing out: it is
asked for as many more as the user has seen, and those go afterwards. "one row" is the user's row times the
item table in numpy, which is bound by reading that table.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from machine import describe_machine
from publish import publish
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from export.foreign.bundle import bundle_arrays
from serve.runtime.recommender import Recommender

try:
    import faiss
except ImportError:  # `make bench` has it, the project has not
    faiss = None

N_USERS, N_FACTORS, N_SEEN, TOP_K, THREADS = 500, 64, 50, 10, 2


def block(call: Callable[[int], object], n_calls: int) -> float:
    """Median seconds of one call, a user each."""
    taken = []
    for user in range(n_calls):
        start = time.perf_counter()
        call(user)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def faiss_call(users: np.ndarray, items: np.ndarray, seen: csr_matrix) -> Callable[[int], object]:
    """A user's list by a flat index of inner products."""
    faiss.omp_set_num_threads(THREADS)
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)

    def call(user: int) -> object:
        left_out = seen.indices[seen.indptr[user] : seen.indptr[user + 1]]
        scores, found = index.search(users[user : user + 1], TOP_K + len(left_out))
        kept = ~np.isin(found[0], left_out)
        return found[0][kept][:TOP_K], scores[0][kept][:TOP_K]

    return call


def rows_of(n_items: int, n_rounds: int, n_calls: int) -> Iterator[str]:
    """The rows of the report for one size of catalogue."""
    rng = np.random.default_rng(0)
    users = rng.normal(0, 0.1, (N_USERS, N_FACTORS)).astype(np.float32)
    items = rng.normal(0, 0.1, (n_items, N_FACTORS)).astype(np.float32)
    rated = rng.integers(0, n_items, N_USERS * N_SEEN)
    seen = csr_matrix(
        (np.ones(len(rated), np.float32), (np.repeat(np.arange(N_USERS), N_SEEN), rated)), (N_USERS, n_items)
    )
    seen.data[:] = 1
    model = AlternatingLeastSquares(factors=N_FACTORS, num_threads=THREADS)
    model.user_factors, model.item_factors = users, items
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "bundle"
        tables = {"user_factors": users, "item_factors": items, "seen": seen}
        bundle_arrays(**tables, output=path, scores="ranking", fast=True)
        served = Recommender.load(path, "cpu", threads=THREADS)
        exact = Recommender.load(path, "cpu", threads=THREADS, exact=True)
        calls: dict[str, Callable[[int], object]] = {
            "implicit": lambda user: model.recommend(user, seen[user], N=TOP_K),
            "recommend": lambda user: served.recommend(user, TOP_K),
            "recommend, exact": lambda user: exact.recommend(user, TOP_K),
            "one row": lambda user: users[user] @ items.T,
        }
        if faiss is not None:
            calls["faiss, flat"] = faiss_call(users, items, seen)
        times: dict[str, list[float]] = {name: [] for name in calls}
        with threadpool_limits(THREADS):
            for _ in range(1 + n_rounds):  # the first warms up
                for name, call in calls.items():
                    times[name].append(block(call, n_calls))
        pairs = [(served.recommend(user, TOP_K), exact.recommend(user, TOP_K)) for user in range(N_USERS)]
    recall = float(np.mean([np.isin(wanted.item_ids, found.item_ids).mean() for found, wanted in pairs]))
    for name, (_, *taken) in times.items():
        ratios = [mine / its for mine, its in zip(taken, times["implicit"][1:], strict=True)]
        graph = f"`{pairs[0][0].graph}`, recall {recall:.4f}" if name == "recommend" else ""
        yield (
            f"| {n_items:,} | {name} | {statistics.median(taken) * 1e3:.3f} "
            f"({min(taken) * 1e3:.3f}-{max(taken) * 1e3:.3f}) | {statistics.median(ratios):.2f} | {graph} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=50)
    arguments = parser.parse_args()
    lines = [row for n in arguments.items for row in rows_of(n, arguments.rounds, arguments.calls)]
    publish(
        "query",
        f"# One user's list\n\n`python benchmarks/bench_query.py`\n\n"
        f"{N_FACTORS} factors, random tables, top {TOP_K}, {N_SEEN} seen items left out, {THREADS} threads, "
        f"{arguments.rounds} rounds of {arguments.calls} calls; recall of the exact lists' items over "
        f"{N_USERS} users.\n"
        f"{describe_machine('numpy', 'onnxruntime-gpu', 'onnxruntime', 'implicit', 'faiss-cpu')}\n\n"
        "| items | call | median ms (rounds) | ratio to implicit, median of rounds | answered by |\n"
        "| --- | --- | --- | --- | --- |\n" + "\n".join(lines) + "\n",
    )


if __name__ == "__main__":
    main()
