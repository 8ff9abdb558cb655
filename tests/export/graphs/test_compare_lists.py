"""Lists are compared by value at each rank, and every other fault of a list is seen."""

from __future__ import annotations

from functools import partial

import numpy as np

from export.graphs.compare_lists import compare_lists


def agreement(truth: list[float], exclude: list[int], indices: list[int], scores: list[float]) -> float:
    found = np.array([indices]), np.array([scores], np.float32)
    return compare_lists(np.array([truth]), np.array([exclude]), *found, 1e-5)[1]


def test_lists_are_compared_by_value_and_ids_are_free_within_ties() -> None:
    compare = partial(agreement, [9.0, 3.0, 2.0, 2.0, 1.0], [0])
    assert compare([1, 2, 3], [3, 2, 2]) == 1.0
    assert compare([1, 3, 2], [3, 2, 2]) == 1.0, "a tie turned around"
    assert compare([2, 1, 3], [2, 3, 2]) == 1 / 3, "two that are not tied"
    assert compare([1, 4, 2], [3, 1, 2]) < 1.0, "a worse item in a better one's place"
    assert compare([1, 2, 2], [3, 2, 2]) == 0.0, "an item twice"
    assert compare([1, 2, 3], [3, 2, 2.1]) == 2 / 3, "a wrong score"
    assert compare([0, 1, 2], [9, 3, 2]) < 1.0, "the unknown item"


def test_excluded_items_and_false_tails_are_seen() -> None:
    compare = partial(agreement, [9.0, 3.0, 2.0, 1.0], [1, 2])
    assert compare([3, 0], [1, -1e30]) == 1.0
    assert compare([1, 3], [3, 1]) == 0.0, "an excluded item, and one that should be the tail"
    assert compare([3, 3], [1, 1]) == 0.5, "a tail filled up"
    assert compare([0, 0], [-1e30, -1e30]) == 0.5, "an item kept back"
