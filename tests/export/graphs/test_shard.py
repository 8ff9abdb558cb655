"""Shards and `merge.onnx` together against `recommend.onnx` and a stable sort: equal lists, ties in order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from export.graphs.merge import merge_graph, side_by_side
from export.graphs.recommend import recommend_graph
from export.graphs.shard import shard_graph, shard_range
from export.model import reference
from export.model.dot import DotArrays
from export.model.mlp import MlpArrays

N_ITEMS, K = 23, 8
USERS = np.arange(10)
# Items of several shards, each user's own; 0 pads.
EXCLUDE = np.stack([USERS, USERS + 6, USERS + 13, 0 * USERS], axis=1)


def exact(arrays):
    """The same with weights in eighths, so that no sum of products is rounded, and with equal items."""

    def rounded(table):
        return None if table is None else np.round(8 * table).astype(np.float32) / 8

    def of_items(table):
        if table is not None:
            table = rounded(table)
            table[12:] = table[:12]  # item 13 is item 1, and so on: in another shard
        return table

    if isinstance(arrays, MlpArrays):
        layers = tuple((rounded(weight), rounded(bias)) for weight, bias in arrays.layers)
        hidden = rounded(arrays.user_hidden), of_items(arrays.item_hidden)
        return replace(arrays, user_hidden=hidden[0], item_hidden=hidden[1], layers=layers)
    assert isinstance(arrays, DotArrays)
    return replace(
        arrays,
        user_factors=rounded(arrays.user_factors),
        item_factors=of_items(arrays.item_factors),
        user_biases=rounded(arrays.user_biases),
        item_biases=of_items(arrays.item_biases),
    )


@pytest.fixture
def sharded(run_model):
    """The merged list of so many shards."""

    def run(lists, n_shards, exclude=EXCLUDE, k=K, ratings=None):
        tops = []
        for number in range(n_shards):
            items = shard_range(N_ITEMS, n_shards, number)
            model = shard_graph(lists, number, items, min(k, items[1] - items[0]), ratings)
            top = run_model(model, {"user_index": USERS, "exclude_item_indices": exclude})
            listed = top["top_item_indices"][top["top_item_indices"] > 0]
            assert items[0] <= listed.min()
            assert listed.max() < items[1]
            tops.append(top)
        feeds = side_by_side(tops)
        width = feeds["shard_scores"].shape[1]
        model = merge_graph(lists, k, width, has_ratings=ratings is not None)
        return run_model(model, {"user_index": USERS, **feeds})

    return run


@pytest.mark.parametrize("n_shards", [2, 3, 7])
def test_the_merged_list_is_that_of_the_whole_catalogue(arrays, sharded, run_model, n_shards) -> None:
    """With seven shards, a shard has fewer items than a list."""
    arrays = exact(arrays)
    whole = run_model(recommend_graph(arrays, K), {"user_index": USERS, "exclude_item_indices": EXCLUDE})
    found = sharded(arrays, n_shards)
    np.testing.assert_array_equal(found["top_item_indices"], whole["top_item_indices"])
    np.testing.assert_allclose(found["top_scores"], whole["top_scores"], rtol=0, atol=1e-6)
    order, _ = reference.top_k(arrays.ordering.scores64(USERS), EXCLUDE, K)
    np.testing.assert_array_equal(found["top_item_indices"], order)
    scores = arrays.ordering.scores64(USERS)
    tied = np.diff(np.take_along_axis(scores, order, axis=1)) == 0
    assert (tied & (np.abs(np.diff(order)) == 12)).any(), "equal items of two shards stand side by side"


def test_a_list_ends_where_the_items_of_all_shards_do(arrays, sharded, run_model) -> None:
    arrays = exact(arrays)
    exclude = np.tile(np.setdiff1d(np.arange(1, N_ITEMS + 1), [2, 9, 14, 22]), (len(USERS), 1))
    feeds = {"user_index": USERS, "exclude_item_indices": exclude}
    whole = run_model(recommend_graph(arrays, N_ITEMS), feeds)
    found = sharded(arrays, 2, exclude, N_ITEMS)
    for name, array in whole.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-6)
    assert (found["top_item_indices"] > 0).sum(axis=1).tolist() == [4] * len(USERS)


def test_the_ratings_are_those_of_the_listed_items(arrays, rng, sharded, run_model) -> None:
    users, items = (rng.normal(0, 0.7, (n + 1, 5)).astype(np.float32) for n in (9, N_ITEMS))
    lists, ratings = exact(DotArrays(users, items, None, None, None, prefix="ranking_")), arrays
    feeds = {"user_index": USERS, "exclude_item_indices": EXCLUDE}
    whole = run_model(recommend_graph(lists, K, ratings), feeds)
    found = sharded(lists, 3, ratings=ratings)
    np.testing.assert_array_equal(found["top_item_indices"], whole["top_item_indices"])
    np.testing.assert_allclose(found["top_ratings"], whole["top_ratings"], rtol=0, atol=1e-5)


def test_long_lists_are_merged_in_every_runtime(dot_arrays, run_model, rng) -> None:
    """Also in onnx.reference, whose indexing has a limit of 64 columns."""
    k, width = 100, 400
    scores = rng.integers(0, 50, (10, width)).astype(np.float32)  # many are equal
    feeds = {
        "user_index": USERS,
        "shard_item_indices": rng.permutation(np.arange(1, 10 * width + 1)).reshape(10, width),
        "shard_scores": scores,
        "shard_ratings": scores / 2,
    }
    model = merge_graph(dot_arrays, k, width, has_ratings=True)
    wanted = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    evaluator = ReferenceEvaluator(ir.to_proto(model))
    other = dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))
    for found in (run_model(model, feeds), other):
        for name, of in (("top_item_indices", "shard_item_indices"), ("top_ratings", "shard_ratings")):
            np.testing.assert_array_equal(found[name], np.take_along_axis(feeds[of], wanted, axis=1))


@pytest.mark.parametrize("n_items", [2, 64, 101, 10**6 + 1])
def test_ranges_cover_the_items_and_differ_by_one_at_most(n_items) -> None:
    for n_shards in {2, min(n_items, 7), min(n_items, 64)}:
        ranges = [shard_range(n_items, n_shards, number) for number in range(n_shards)]
        assert [first for first, _ in ranges] == [1, *(stop for _, stop in ranges[:-1])]
        assert ranges[-1][1] == n_items + 1
        sizes = {stop - first for first, stop in ranges}
        assert min(sizes) > 0
        assert max(sizes) - min(sizes) <= 1
