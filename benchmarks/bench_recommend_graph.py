"""`recommend.onnx` beside its limit, and beside what one would write instead.

    python benchmarks/bench_recommend_graph.py [--rounds 9]

Random tables of 64 factors, top 10, nothing excluded. The limit of a batch is the bare matrix product of the
same shape (numpy's sgemm); the limit of one user is reading the item table once. For an MLP, torch lays user
and item side by side: what it takes longer is what the split first layer saves. Variants take turns in one
process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import torch
from machine import describe_machine
from publish import publish

from export.graphs.recommend import recommend_graph
from export.model.dot import DotArrays
from export.model.mlp import MlpArrays
from serve.runtime.session import available_cpus, open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FACTORS, TOP_K, WIDTH = 64, 10, 100
DOT_SHAPES = [(10_000, 1), (10_000, 256), (100_000, 1), (100_000, 256), (1_000_000, 1), (1_000_000, 32)]
MLP_SHAPES = [(10_000, 1), (10_000, 16), (100_000, 1)]


def take_turns(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of one call of each."""
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for call in variants.values():
        call()
    for _ in range(rounds):
        for name, call in variants.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def session_of(model: ir.Model, folder: Path) -> InferenceSession:
    path = folder / "graph.onnx"
    ir.save(model, path)
    return open_session(path, "cpu")


def dot(n_items: int, batch: int, rounds: int, rng: np.random.Generator) -> dict[str, float]:
    users = rng.standard_normal((1001, FACTORS), np.float32)
    items = rng.standard_normal((n_items + 1, FACTORS), np.float32)
    arrays = DotArrays(users, items, None, None, None)
    user_index = rng.integers(1, len(users), batch)
    user_tensor, item_tensor = torch.from_numpy(users), torch.from_numpy(items)
    feeds = {"user_index": user_index, "exclude_item_indices": np.zeros((batch, 1), np.int64)}

    def in_torch() -> object:
        with torch.inference_mode():
            return (user_tensor[user_index] @ item_tensor.T).topk(TOP_K)

    with tempfile.TemporaryDirectory() as folder:
        session = session_of(recommend_graph(arrays, TOP_K), Path(folder))
        found = session.run(None, feeds)[1]
        expected = -np.sort(-(users[user_index] @ items[1:].T), axis=1)[:, :TOP_K]
        np.testing.assert_allclose(found, expected, atol=1e-3)
        transposed = items.T
        one = users[user_index[0]]
        return take_turns(
            {
                "recommend.onnx": lambda: session.run(None, feeds),
                # numpy's product of a matrix and a vector reads rows as they lie.
                "limit": lambda: items @ one if batch == 1 else users[user_index] @ transposed,
                "torch": in_torch,
            },
            rounds,
        )


def mlp(n_items: int, batch: int, rounds: int, rng: np.random.Generator) -> dict[str, float]:
    """One hidden layer of WIDTH; "side by side" is torch on the whole [B, N, 2 F] input."""
    users = rng.standard_normal((1001, FACTORS), np.float32)
    items = rng.standard_normal((n_items + 1, FACTORS), np.float32)
    first = rng.standard_normal((WIDTH, 2 * FACTORS), np.float32) / np.float32(16)
    last, zero = rng.standard_normal((1, WIDTH), np.float32), np.zeros(1, np.float32)
    arrays = MlpArrays(
        (users @ first[:, :FACTORS].T).astype(np.float32),
        (items @ first[:, FACTORS:].T).astype(np.float32),
        ((last, zero),),
        items,
        None,
    )
    user_index = rng.integers(1, len(users), batch)
    feeds = {"user_index": user_index, "exclude_item_indices": np.zeros((batch, 1), np.int64)}
    tensors = [torch.from_numpy(array) for array in (users, items, first, last)]

    def side_by_side() -> object:
        user_tensor, item_tensor, first_tensor, last_tensor = tensors
        with torch.inference_mode():
            user = user_tensor[user_index][:, None].expand(-1, n_items + 1, -1)
            item = item_tensor[None].expand(batch, -1, -1)
            hidden = torch.relu(torch.cat([user, item], 2) @ first_tensor.T)
            return (hidden @ last_tensor.T).squeeze(2).topk(TOP_K)

    hidden_user, hidden_item = arrays.user_hidden, arrays.item_hidden
    # One addition, one maximum and one product of a hidden table's size: all that must be read and computed.
    buffer = np.empty_like(hidden_item)

    def bare() -> object:
        for index in user_index:
            np.add(hidden_user[index], hidden_item, out=buffer)
            np.maximum(buffer, 0, out=buffer)
            scores = buffer @ last[0]
        return scores

    with tempfile.TemporaryDirectory() as folder:
        session = session_of(recommend_graph(arrays, TOP_K), Path(folder))
        return take_turns(
            {"recommend.onnx": lambda: session.run(None, feeds), "limit": bare, "torch": side_by_side}, rounds
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(available_cpus())
    rng = np.random.default_rng(0)
    lines = [
        "# `recommend.onnx` beside its limit and beside torch",
        "",
        "`python benchmarks/bench_recommend_graph.py`",
        "",
        f"Medians of {arguments.rounds} rounds, ms a call.",
        describe_machine("numpy", "onnxruntime-gpu", "torch"),
        "The limit is numpy's bare product (`dot`), or the bare hidden layer, user by user (`mlp`), without",
        "ranking. torch is `matmul` and `topk` (`dot`), or user and item side by side in one input (`mlp`).",
        "",
        "| model | items x users | recommend.onnx | limit | torch | onnx / limit | torch / onnx |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, measure, shapes in (("dot", dot, DOT_SHAPES), ("mlp", mlp, MLP_SHAPES)):
        for n_items, batch in shapes:
            seconds = measure(n_items, batch, arguments.rounds, rng)
            onnx, limit, other = (1e3 * seconds[key] for key in ("recommend.onnx", "limit", "torch"))
            lines.append(
                f"| {name} | {n_items:,} x {batch} | {onnx:.2f} | {limit:.2f} | {other:.2f} "
                f"| {onnx / limit:.2f} | {other / onnx:.2f} |"
            )
            print(lines[-1], flush=True)
    publish("recommend_graph", "\n".join(lines))


if __name__ == "__main__":
    main()
