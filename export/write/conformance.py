"""`conformance.json`: golden inputs and outputs, so that any runtime can check itself.

The outputs come from the float64 reference, not from a runtime: they judge every runtime alike, and are the
same bytes on every machine. docs/bundle.md states how they are compared.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from export.graphs.recommend_by_id import IdTables
from export.model import reference
from export.model.arrays import Arrays, DotArrays
from export.model.reference import Int64

FORMAT_VERSION = 1
Arrays_ = dict[str, npt.NDArray[Any]]


def conformance(
    arrays: Arrays,
    seen: dict[int, tuple[Int64, npt.NDArray[np.float32]]],
    top_k: int,
    fold_in: float | None,
    ids: IdTables | None = None,
) -> dict[str, list[dict[str, Arrays_]]]:
    """Golden cases of every graph: graph -> cases of {"inputs": {name: array}, "outputs": {name: array}}.

    Args:
        arrays: the model.
        seen: user index -> rated item indices and their ratings; a few users are enough.
        top_k: K of the graphs.
        fold_in: the regularization of `fold_in.onnx`; None where there is no such graph.
        ids: what `recommend_by_id.onnx` holds; None where there is no such graph.
    """
    users = np.array(sorted(seen), dtype=np.int64)
    n_items = len(arrays.item_factors) - 1
    items = np.unique(np.array([1, (n_items + 1) // 2, n_items], dtype=np.int64))
    cases = {
        "score": [_score(arrays, users, items)],
        "recommend": [
            _recommend(
                arrays, np.append(users, 0), _padded([seen[u][0] for u in users] + [np.array([], int)]), top_k
            ),
            _recommend(arrays, users[:1], np.zeros((1, 1), np.int64), top_k),
        ],
        "similar_items": [_similar(arrays, np.append(items, 0), top_k)],
    }
    if fold_in is not None and isinstance(arrays, DotArrays):
        # Whole histories, one rating, and none at all.
        histories = [seen[u] for u in users]
        histories += [(histories[0][0][:1], histories[0][1][:1]), (histories[0][0][:0], histories[0][1][:0])]
        cases["fold_in"] = [
            _fold_in(
                arrays,
                _padded([indices for indices, _ in histories]),
                _padded([ratings for _, ratings in histories]).astype(np.float32),
                top_k,
                fold_in,
            )
        ]
    if ids is not None:
        cases["recommend_by_id"] = [_by_id(ids, case) for case in cases["recommend"]]
    return cases


def encode(cases: dict[str, list[dict[str, Arrays_]]], tolerance: dict[str, float]) -> bytes:
    """The bytes of `conformance.json`. `tolerance`: output name -> largest absolute difference allowed."""

    def tensor(array: npt.NDArray[Any]) -> dict[str, Any]:
        flat = array.ravel()
        # Seven digits are what float32 holds, and what hides the last bit of a machine's float64 sums.
        data = [float(f"{x:.7g}") for x in flat.tolist()] if array.dtype.kind == "f" else flat.tolist()
        dtype = {"f": "float32", "b": "bool", "O": "string"}.get(array.dtype.kind, "int64")
        return {"dtype": dtype, "shape": list(array.shape), "data": data}

    graphs = {
        graph: [
            {
                side: {name: tensor(array) for name, array in case[side].items()}
                for side in ("inputs", "outputs")
            }
            for case in graph_cases
        ]
        for graph, graph_cases in cases.items()
    }
    document = {"format_version": FORMAT_VERSION, "tolerance": tolerance, "graphs": graphs}
    return (json.dumps(document, separators=(",", ":"), sort_keys=True) + "\n").encode()


def _score(arrays: Arrays, users: Int64, items: Int64) -> dict[str, Arrays_]:
    user_index = np.repeat(np.append(users, 0), len(items) + 1)
    item_index = np.tile(np.append(items, 0), len(users) + 1)
    all_scores = reference.scores(arrays, np.append(users, 0))
    score = all_scores[np.repeat(np.arange(len(users) + 1), len(items) + 1), item_index]
    return {"inputs": {"user_index": user_index, "item_index": item_index}, "outputs": {"score": score}}


def _recommend(arrays: Arrays, users: Int64, exclude: Int64, top_k: int) -> dict[str, Arrays_]:
    indices, scores = reference.top_k(reference.scores(arrays, users), exclude, top_k)
    return {
        "inputs": {"user_index": users, "exclude_item_indices": exclude},
        "outputs": {"top_item_indices": indices, "top_scores": scores},
    }


def _by_id(ids: IdTables, case: dict[str, Arrays_]) -> dict[str, Arrays_]:
    """A case of `recommend` between ids; user 0 becomes an id that is not in the table."""
    users, best = case["inputs"]["user_index"], case["outputs"]["top_item_indices"]
    outputs: Arrays_ = {
        "top_item_ids": ids.items(best),
        "top_scores": case["outputs"]["top_scores"],
        "known": users > 0,
    }
    titles = ids.titles_of(best)
    if titles is not None:
        outputs["top_titles"] = titles
    exclude = ids.items(case["inputs"]["exclude_item_indices"])
    return {"inputs": {"user_id": ids.users(users), "exclude_item_ids": exclude}, "outputs": outputs}


def _similar(arrays: Arrays, items: Int64, top_k: int) -> dict[str, Arrays_]:
    cosines = reference.cosines(arrays.item_factors, items)
    indices, scores = reference.top_k(cosines, items[:, None], top_k)
    return {"inputs": {"item_index": items}, "outputs": {"top_item_indices": indices, "top_scores": scores}}


def _fold_in(
    arrays: DotArrays,
    item_indices: Int64,
    ratings: npt.NDArray[np.float32],
    top_k: int,
    regularization: float,
) -> dict[str, Arrays_]:
    folded = np.stack(
        [reference.fold_in(arrays, i, r, regularization) for i, r in zip(item_indices, ratings, strict=True)]
    )
    n_factors = arrays.item_factors.shape[1]
    users, biases = folded[:, :n_factors], None
    outputs: Arrays_ = {"user_factors": users}
    if arrays.user_biases is not None:
        biases = outputs["user_biases"] = folded[:, n_factors:]
    scores = reference.to_range(reference.dot_logits(arrays, users, biases), arrays.y_range)
    outputs["top_item_indices"], outputs["top_scores"] = reference.top_k(scores, item_indices, top_k)
    return {"inputs": {"item_indices": item_indices, "ratings": ratings}, "outputs": outputs}


def _padded(rows: list[npt.NDArray[Any]]) -> Int64:
    """Rows of different lengths, 0-padded to the longest, at least one column."""
    result = np.zeros((len(rows), max(1, *(len(row) for row in rows))), rows[0].dtype)
    for i, row in enumerate(rows):
        result[i, : len(row)] = row
    return result
