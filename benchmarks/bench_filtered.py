"""`recommend_filtered.onnx` beside `recommend.onnx`: what rules cost.

    python benchmarks/bench_filtered.py [--rounds 15]

Random tables of 64 factors with item biases, 20 categories, two numbers, top 100, 20 items excluded for each
user. A rule has wanted and unwanted categories, a floor of ratings and a range of years, and half of the
items in its allow list where said. Variants take turns in one process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx_ir as ir
from machine import describe_machine
from publish import publish

from export.graphs.recommend import recommend_graph
from export.graphs.recommend_filtered import recommend_filtered_graph
from export.graphs.rules import no_rules
from export.model.dot import DotArrays
from export.model.item_columns import ItemColumns
from serve.runtime.session import open_session, run

FACTORS, TOP_K, N_CATEGORIES = 64, 100, 20
SHAPES = [(10_000, 1), (10_000, 256), (100_000, 1), (100_000, 256)]


def columns_of(n_items: int, rng: np.random.Generator) -> ItemColumns:
    """Two categories, some ratings and a year for each item."""
    names = [f"category {number:02d}" for number in range(N_CATEGORIES)]
    genres = ["|".join(rng.choice(names, 2, replace=False)) for _ in range(n_items)]
    counts = np.append(0, rng.zipf(1.5, n_items).clip(max=100_000))
    return ItemColumns.of(counts, genres, rng.integers(1920, 2020, n_items).tolist())


def rules_of(
    columns: ItemColumns, n_rows: int, allowed: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Rules that leave about a tenth of the items, different ones in each row."""
    rules = no_rules(columns, n_rows)
    for row in range(n_rows):
        chosen = rng.permutation(N_CATEGORIES)
        rules["wanted_categories"][row, chosen[:6]] = 1
        rules["unwanted_categories"][row, chosen[6:9]] = 1
        rules["lowest_numbers"][row] = [2, 1950]
        rules["highest_numbers"][row, 1] = 2000
    if allowed:
        n_items = len(columns.membership) - 1
        listed = [1 + rng.permutation(n_items)[:allowed] for _ in range(n_rows)]
        rules["allow_item_indices"] = np.stack(listed)
    return rules


def measure(n_items: int, batch: int, rounds: int, rng: np.random.Generator) -> dict[str, float]:
    """Median milliseconds of "plain"; of the other variants, median ratios to the "plain" of their round."""
    users = rng.standard_normal((1001, FACTORS), np.float32)
    items = rng.standard_normal((n_items + 1, FACTORS), np.float32)
    biases = rng.standard_normal((n_items + 1, 1), np.float32)
    arrays = DotArrays(users, items, np.zeros((1001, 1), np.float32), biases, None)
    columns = columns_of(n_items, rng)
    feeds = {
        "user_index": rng.integers(1, len(users), batch),
        "exclude_item_indices": rng.integers(1, n_items + 1, (batch, 20)),
    }
    with tempfile.TemporaryDirectory() as folder:
        sessions = {}
        for name, model in (
            ("plain", recommend_graph(arrays, TOP_K)),
            ("filtered", recommend_filtered_graph(arrays, columns, TOP_K)),
        ):
            ir.save(model, Path(folder) / f"{name}.onnx")
            sessions[name] = open_session(Path(folder) / f"{name}.onnx", "cpu")
        names = ["top_item_indices", "top_scores"]
        filtered = {
            "no rule": no_rules(columns, 1),
            "one rule": rules_of(columns, 1, 0, rng),
            "one rule, allow list": rules_of(columns, 1, n_items // 2, rng),
            "a rule each": rules_of(columns, batch, 0, rng),
            "a rule each, allow lists": rules_of(columns, batch, 1000, rng),
        }
        calls = {"plain": (sessions["plain"], feeds)}
        calls |= {name: (sessions["filtered"], feeds | rules) for name, rules in filtered.items()}
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(rounds + 1):
            # Forth and back: what follows a large variant finds the memory as that left it.
            for name in list(calls) if turn % 2 else list(calls)[::-1]:
                session, given = calls[name]
                start = time.perf_counter()
                run(session, given, names)
                if turn:
                    taken[name].append(1e3 * (time.perf_counter() - start))
    plain = taken.pop("plain")
    ratios = {
        name: statistics.median(a / b for a, b in zip(one, plain, strict=True)) for name, one in taken.items()
    }
    return {"plain": statistics.median(plain), **ratios}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    lines: list[str] = []
    for n_items, batch in SHAPES:
        found = measure(n_items, batch, arguments.rounds, rng)
        if not lines:
            others = list(found)[1:]
            lines = [
                f"| items x users | recommend.onnx, ms | {' | '.join(others)} |",
                "| --- " * len(others) + "| --- | --- |",
            ]
        ratios = " | ".join(f"{found[name]:.2f}" for name in others)
        lines.append(f"| {n_items:,} x {batch} | {found['plain']:.2f} | {ratios} |")
        print(lines[-1], flush=True)
    text = [
        "# What rules cost",
        "",
        "`python benchmarks/bench_filtered.py`",
        "",
        f"Medians of {arguments.rounds} rounds; {describe_machine('numpy', 'onnxruntime-gpu')}",
        "After the milliseconds: medians of `recommend_filtered.onnx` / `recommend.onnx`, round by round.",
        "",
        *lines,
    ]
    publish("filtered", "\n".join(text))


if __name__ == "__main__":
    main()
