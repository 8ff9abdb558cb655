"""Parity: every graph, on every provider that is really there, against the trained torch module.

The truth is torch's `forward`, asked for every item one pair at a time; lists are compared by value at each
rank, so that equal scores may stand in any order. What torch has no counterpart for (fold-in) is compared
with `numpy.linalg.solve` in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from export.graphs.build import MASKED
from export.graphs.recommend_by_id import IdTables
from export.model import reference
from export.model.arrays import Arrays, DotArrays
from export.model.fold_in_choice import FACTOR_TOLERANCE, History
from export.model.reference import Float64, Int64
from serve.bundle.manifest import Check, FoldIn, Parity

# Of the rating span: float32 sums of a hundred products, then a sigmoid's slope of a quarter.
SCORE_TOLERANCE = 1e-5
# A few roundings of numbers below 1.
COSINE_TOLERANCE = 1e-5
# Tables are copied, or derived in float64 and rounded once: an ulp or two, never 1e-3.
TABLE_TOLERANCE = 1e-6
# A sample that covers every user of a small model and many of a large one.
N_PAIRS = 20_000
N_USERS = 64
# onnx.reference is plain numpy, and slow: a few rows prove the operators' semantics.
N_REFERENCE = 8


class Runner(Protocol):
    """Runs a graph: names to arrays in, names to arrays out."""

    def __call__(self, graph: str, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run one graph of the bundle."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What the graphs are asked, drawn once."""

    pairs: tuple[Int64, Int64]
    """user and item index, int64 [N] each: held-out pairs, and pairs with index 0"""
    ratings: npt.NDArray[np.float32]
    """float32 [N], NaN where the pair has no held-out rating"""
    users: Int64
    """int64 [B], index 0 among them"""
    exclude: Int64
    """int64 [B, E], 0-padded: what these users have rated"""
    items: Int64
    """int64 [B], index 0 among them"""
    histories: list[History]

    def head(self, n: int) -> Sample:
        """The first n of everything."""
        pairs = (self.pairs[0][:n], self.pairs[1][:n])
        return Sample(
            pairs, self.ratings[:n], self.users[:n], self.exclude[:n], self.items[:n], self.histories[:n]
        )


def check_graphs(
    run: Runner,
    provider: str,
    module: nn.Module,
    arrays: Arrays,
    sample: Sample,
    top_k: int,
    fold_in: FoldIn | None,
    score_tolerance: float,
) -> list[Check]:
    """Compare every graph on one provider. `score_tolerance` is in ratings."""
    checks = [
        _check_score(run, provider, module, sample, score_tolerance),
        _check_recommend(run, provider, module, sample, top_k, score_tolerance),
        _check_similar(run, provider, module, sample, top_k),
    ]
    if fold_in is not None and isinstance(arrays, DotArrays) and sample.histories:
        checks.append(_check_fold_in(run, provider, arrays, sample, top_k, fold_in, score_tolerance))
    return checks


def check_tables(
    found: Mapping[str, Mapping[str, npt.NDArray[Any]]],
    expected: Mapping[str, Mapping[str, npt.NDArray[Any]]],
) -> Check:
    """Compare every initializer with what the run gives: no sample misses a damaged row here.

    Args:
        found: graph -> name -> array, as the files hold them.
        expected: the same, from the run.
    """
    errors = []
    for graph, arrays in expected.items():
        for name, wanted in arrays.items():
            array = found[graph].get(name)
            if array is None or array.shape != wanted.shape:
                errors.append(np.array([np.inf]))
            elif wanted.dtype.kind in "OSU":
                errors.append(np.where(array == wanted, 0.0, np.inf).ravel())
            else:
                errors.append(np.abs(array.astype(np.float64) - wanted).ravel())
    together = np.concatenate(errors)
    return _check("tables", "file", len(together), together, TABLE_TOLERANCE)


def check_by_id(
    run: Runner,
    provider: str,
    module: nn.Module,
    ids: IdTables,
    sample: Sample,
    top_k: int,
    tolerance: float,
) -> Check:
    """Compare `recommend_by_id` with torch: its lists, and that every title is its item's, every id known."""
    feeds = {"user_id": ids.users(sample.users), "exclude_item_ids": ids.items(sample.exclude)}
    found = run("recommend_by_id", feeds)
    row_of = {item_id: row for row, item_id in enumerate(ids.item_ids.tolist(), 1)}
    indices = np.vectorize(lambda item_id: row_of.get(item_id, 0), otypes=[np.int64])(found["top_item_ids"])
    right = np.array_equal(found["known"], sample.users > 0)
    titles = ids.titles_of(indices)
    if titles is not None:
        right = right and np.array_equal(found["top_titles"], titles)
    lists = {"top_item_indices": indices, "top_scores": found["top_scores"]}
    truth = torch_scores(module, sample.users)
    check = _check_lists("recommend_by_id", provider, truth, sample.exclude, lists, top_k, tolerance)
    return check if right else _check("recommend_by_id", provider, len(truth), np.array([np.inf]), tolerance)


def torch_scores(module: nn.Module, users: Int64) -> Float64:
    """Scores of the module for every item: int64 [B] -> float64 [B, n_items + 1]."""
    n_items = len(module.get_parameter("item_factors"))
    items = torch.arange(n_items)
    with torch.inference_mode():
        rows = [module(torch.full((n_items,), int(user)), items).double().numpy() for user in users]
    return np.stack(rows)


def compare_lists(
    truth: Float64, exclude: Int64, indices: Int64, scores: npt.NDArray[np.float32], tolerance: float
) -> tuple[Float64, float]:
    """Compare top-k lists with the scores they were made from, ids free within ties.

    Args:
        truth: float64 [B, N], every item's true score.
        exclude: int64 [B, E], what must not be listed.
        indices: int64 [B, K], the lists.
        scores: float32 [B, K].
        tolerance: how far two scores may differ and count as one.

    Returns:
        The errors, float64 [B * K]: at each rank the larger of two, the score against the true score of that
        item, and the true score of that item against the true score at that rank. And the share of ranks
        whose error is within the tolerance, with no item listed twice, excluded, or missing from the tail.
    """
    k = indices.shape[1]
    _, wanted = reference.top_k(truth, exclude, k)
    tail = wanted <= MASKED / 10
    of_item = np.where(tail, MASKED, np.take_along_axis(truth, indices, axis=1))
    errors = np.maximum(np.abs(scores - of_item), np.abs(of_item - wanted))
    forbidden = (indices[:, :, None] == exclude[:, None, :]).any(axis=2) | (indices == 0)
    ordered = np.sort(np.where(tail, -np.arange(1, k + 1), indices), axis=1)
    twice = (np.diff(ordered, axis=1) == 0).any(axis=1, keepdims=True)
    wrong = (forbidden != tail) | (tail & (indices != 0)) | twice
    # -1e30 rounds to the next float32: a tail that matches has no error worth a name.
    errors[tail & (indices == 0) & (scores <= MASKED / 10)] = 0.0
    errors[wrong] = np.inf
    return errors.ravel(), float(np.mean(errors <= tolerance))


def _check_score(run: Runner, provider: str, module: nn.Module, sample: Sample, tolerance: float) -> Check:
    user_index, item_index = sample.pairs
    found = run("score", {"user_index": user_index, "item_index": item_index})["score"].astype(np.float64)
    with torch.inference_mode():
        truth = module(torch.from_numpy(user_index), torch.from_numpy(item_index)).double().numpy()
    rated = np.isfinite(sample.ratings)
    rmse_torch, rmse_onnx = None, None
    if rated.any():
        rmse_torch = float(np.sqrt(np.mean((truth[rated] - sample.ratings[rated]) ** 2)))
        rmse_onnx = float(np.sqrt(np.mean((found[rated] - sample.ratings[rated]) ** 2)))
    return _check(
        "score", provider, len(truth), np.abs(found - truth), tolerance, None, rmse_torch, rmse_onnx
    )


def _check_recommend(
    run: Runner, provider: str, module: nn.Module, sample: Sample, top_k: int, tolerance: float
) -> Check:
    found = run("recommend", {"user_index": sample.users, "exclude_item_indices": sample.exclude})
    return _check_lists(
        "recommend", provider, torch_scores(module, sample.users), sample.exclude, found, top_k, tolerance
    )


def _check_similar(run: Runner, provider: str, module: nn.Module, sample: Sample, top_k: int) -> Check:
    found = run("similar_items", {"item_index": sample.items})
    # cosine_similarity would broadcast to [sample, n_items, n_factors]: 20 GB at 300,000 items.
    directions = torch.nn.functional.normalize(module.get_parameter("item_factors").detach().double())
    truth = (directions[torch.from_numpy(sample.items)] @ directions.T).numpy()
    return _check_lists(
        "similar_items", provider, truth, sample.items[:, None], found, top_k, COSINE_TOLERANCE
    )


def _check_fold_in(
    run: Runner,
    provider: str,
    arrays: DotArrays,
    sample: Sample,
    top_k: int,
    fold_in: FoldIn,
    tolerance: float,
) -> Check:
    n_factors = arrays.item_factors.shape[1]
    errors, agreements = [], []
    for history in sample.histories:
        found = run("fold_in", {"item_indices": history.item_indices[None], "ratings": history.ratings[None]})
        exact = reference.fold_in(arrays, history.item_indices, history.ratings, fold_in.regularization)
        parts = [found["user_factors"]] + ([found["user_biases"]] if "user_biases" in found else [])
        factor_error = np.abs(np.concatenate(parts, axis=1)[0] - exact).max() / max(1.0, np.abs(exact).max())
        bias = exact[None, n_factors:] if "user_biases" in found else None
        logits = reference.dot_logits(arrays, exact[None, :n_factors], bias)
        truth = reference.to_range(logits, arrays.y_range)
        listed, agreement = compare_lists(
            truth, history.item_indices[None], found["top_item_indices"], found["top_scores"], tolerance
        )
        # One figure for both: factors in units of their own tolerance.
        errors += [listed, np.array([factor_error / FACTOR_TOLERANCE * tolerance])]
        agreements.append(agreement)
    return _check(
        "fold_in",
        provider,
        len(sample.histories),
        np.concatenate(errors),
        tolerance,
        float(np.mean(agreements)),
    )


def _check_lists(
    graph: str,
    provider: str,
    truth: Float64,
    exclude: Int64,
    found: Mapping[str, npt.NDArray[Any]],
    top_k: int,
    tolerance: float,
) -> Check:
    indices, scores = found["top_item_indices"], found["top_scores"]
    if indices.shape != (len(truth), top_k):
        return _check(graph, provider, len(truth), np.array([np.inf]), tolerance, 0.0)
    errors, agreement = compare_lists(truth, exclude, indices, scores, tolerance)
    return _check(graph, provider, len(truth), errors, tolerance, agreement)


def _check(
    graph: str,
    provider: str,
    n: int,
    errors: Float64,
    tolerance: float,
    list_agreement: float | None = None,
    rmse_torch: float | None = None,
    rmse_onnx: float | None = None,
) -> Check:
    # NaN compares false, so it would pass a plain `<=` upside down: it counts as infinite. JSON has no
    # infinity: the largest float stands for it.
    worst = float(np.nan_to_num(errors, nan=np.inf).max(initial=0.0))
    largest = float(np.finfo(np.float32).max)
    return Check(
        graph=graph,
        provider=provider,
        n=n,
        max_error=min(worst, largest),
        mean_error=min(float(np.nan_to_num(errors, nan=np.inf).mean()), largest),
        tolerance=tolerance,
        passed=worst <= tolerance,
        list_agreement=list_agreement,
        rmse_torch=rmse_torch,
        rmse_onnx=rmse_onnx,
    )


def report(checks: Iterable[Check]) -> Parity:
    """All checks in one report."""
    checks = list(checks)
    return Parity(passed=all(check.passed for check in checks), checks=checks)
