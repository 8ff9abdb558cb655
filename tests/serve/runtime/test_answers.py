"""What every list obeys, and how each way not to is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serve.runtime.answers import fault_of_top

EXCLUDED = np.array([[0, 9, 7], [0, 0, 0]])


def lists() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two right ones of items 1 to 9, the first with three items left."""
    indices = np.array([[1, 5, 2, 0], [9, 8, 7, 6]])
    scores = np.array([[4.0, 3.0, 3.0, -1e30], [2.0, 1.0, 0.0, -1.0]], np.float32)
    return indices, scores, scores.copy()


def test_right_lists_are_right() -> None:
    assert fault_of_top(*lists(), EXCLUDED, 4, 9) is None
    indices, scores, _ = lists()
    assert fault_of_top(indices, scores, None, EXCLUDED, 4, 9) is None
    assert fault_of_top(indices[:0], scores[:0], None, EXCLUDED[:0], 4, 9) is None


@pytest.mark.parametrize(
    ("array", "row", "rank", "value", "message"),
    [
        (0, 0, 0, 10, "beyond 1 to 9"),
        (0, 0, 0, -1, "beyond 1 to 9"),
        (0, 1, 3, 2**62 + 1, "beyond 1 to 9"),
        (0, 1, 3, -(2**63) + 3, "beyond 1 to 9"),
        (0, 0, 0, 9, "an item twice, or one that is excluded"),
        (0, 0, 1, 7, "an item twice, or one that is excluded"),
        (0, 1, 0, 6, "an item twice, or one that is excluded"),
        (0, 0, 1, 0, "a score without an item"),
        (0, 0, 3, 3, "an item without a score"),
        (1, 0, 1, 5.0, "do not fall"),
        (1, 1, 0, np.inf, "not finite"),
        (1, 1, 3, -np.inf, "not finite"),
        (1, 1, 0, np.nan, "do not fall"),
        (1, 1, 2, np.nan, "do not fall"),
        (2, 0, 0, np.nan, "ratings that are not finite"),
        (2, 1, 3, np.inf, "ratings that are not finite"),
    ],
)
def test_wrong_lists_are_named(array: int, row: int, rank: int, value: Any, message: str) -> None:
    arrays = lists()
    arrays[array][row, rank] = value
    assert message in str(fault_of_top(*arrays, EXCLUDED, 4, 9))


def test_other_shapes() -> None:
    indices, scores, ratings = lists()
    assert "instead of (2, 5)" in str(fault_of_top(indices, scores, ratings, EXCLUDED, 5, 9))
    assert "instead of (2, 4)" in str(fault_of_top(indices[:1], scores, ratings, EXCLUDED, 4, 9))
    assert "instead of (2, 4)" in str(fault_of_top(indices, scores, ratings[:, :1], EXCLUDED, 4, 9))
