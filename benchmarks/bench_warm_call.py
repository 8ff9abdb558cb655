"""One warm recommendation for one user, beside the bare `session.run` of the same graph.

    python benchmarks/bench_warm_call.py [BUNDLE] [--rounds 40]

The same user and the same excluded items in both. Blocks of calls in turn, in one process. The bound: at
most 2 times the bare run, with the id looked up, the seen items read, the request checked, and ids out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from machine import describe_machine
from publish import publish

from serve.bundle.manifest import Model

BOUND = 2.0
CALLS = 200


def block(call: Callable[[], object]) -> float:
    """Median seconds of one call."""
    for _ in range(20):
        call()
    taken = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", nargs="?", type=Path, default=Path("artifacts/default"))
    parser.add_argument("--user-id", default="42")
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()

    from serve.runtime.recommender import Recommender
    from serve.runtime.session import open_session

    recommender = Recommender.load(arguments.bundle, device="cpu")
    session = open_session(recommender.bundle.file("recommend.onnx"), "cpu")
    user = recommender.users.parse(arguments.user_id)
    user_index = recommender.users.lookup([user])
    feeds = {"user_index": user_index, "exclude_item_indices": recommender.seen.padded(user_index)}
    assert (session.run(None, feeds)[0][0, :10] == recommender.recommend(user).item_indices).all()

    calls: dict[str, Callable[[], object]] = {
        "session.run": lambda: session.run(None, feeds),
        "Recommender.recommend": lambda: recommender.recommend(user),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(arguments.rounds):
        for name, call in calls.items():
            times[name].append(block(call))
    bare, full = times.values()
    ratio = statistics.median(b / a for a, b in zip(bare, full, strict=True))
    write_report(
        recommender.manifest.model, feeds["exclude_item_indices"].shape[1], arguments.rounds, times, ratio
    )
    if ratio > BOUND:
        sys.exit(f"a warm call took {ratio:.2f} times the bare run, more than {BOUND}")


def write_report(model: Model, n_seen: int, rounds: int, times: dict[str, list[float]], ratio: float) -> None:
    rows = [
        f"| `{name}` | {statistics.median(taken) * 1e6:.0f} | {min(taken) * 1e6:.0f} |"
        for name, taken in times.items()
    ]
    publish(
        "warm_call",
        f"""# One warm recommendation for one user

`python benchmarks/bench_warm_call.py`

Bundle: {model.title}, {model.n_users:,} users, {model.n_items:,} items.
The user has rated {n_seen} items, which are left out. {rounds} rounds of {CALLS} calls each.
{describe_machine("numpy", "onnxruntime-gpu", "onnxruntime")}

| call | median µs | best µs |
| --- | --- | --- |
"""
        + "\n".join(rows)
        + f"\n\nMedian of the rounds' ratios, call to bare run: **{ratio:.2f}** (bound: {BOUND:g}).\n",
    )


if __name__ == "__main__":
    main()
