"""Held-out ratings from a file of their own."""

from __future__ import annotations

from dataclasses import replace

import made_up
import numpy as np
import pytest

from recsys.data.valid_data import with_valid_data
from recsys.errors import DataError


def test_known_pairs_are_held_out_and_unknown_ids_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    data = made_up.interactions(
        [1, 1, 2], [1, 2, 1], [1, 2, 3], users=[10, 20], items=["a", "b"], timestamps=np.arange(3)
    )
    valid = made_up.interactions(
        [1, 2, 1, 3],
        [2, 1, 3, 2],
        [4, 5, 1, 1],
        users=["20", "10", "30"],  # text here, numbers there
        items=["b", "a", "c"],
        timestamps=np.arange(4),
    )
    # User 20 rated "a", user 10 rated "b"; user 20 rated "c", user 30 rated "a": unknown.
    merged, parts = with_valid_data(data, replace(valid, item_index=np.array([2, 1, 3, 2], np.int32)))
    held_out = merged.user_index[parts.valid], merged.item_index[parts.valid], merged.ratings[parts.valid]
    assert [column.tolist() for column in held_out] == [[2, 1], [1, 2], [4, 5]]
    # Both pairs were in the data, too: they are not trained on.
    trained = merged.user_index[parts.train], merged.item_index[parts.train], merged.ratings[parts.train]
    assert [column.tolist() for column in trained] == [[1], [1], [1]]
    assert merged.timestamps is not None
    assert merged.timestamps.tolist() == [0, 0, 1]
    left_out, off_scale = caplog.messages
    assert "2 of 4 ratings are left out, 1 by users and 1 of items" in left_out
    assert "2 ratings lie off the scale" in off_scale  # 4 and 5
    assert "1 to 3, such as 4" in off_scale


def test_times_stay_if_both_have_them() -> None:
    data = made_up.interactions([1, 1], [1, 2], [1, 2], timestamps=np.arange(2))
    valid = made_up.interactions([1], [1], [5])
    assert with_valid_data(data, valid)[0].timestamps is None


def test_a_file_that_leaves_nothing_is_refused() -> None:
    data = made_up.interactions([1, 1], [1, 2], [1, 2])
    with pytest.raises(DataError, match="0 to measure with"):
        with_valid_data(data, made_up.interactions([1], [1], [1], users=[99]))
    with pytest.raises(DataError, match="leave 0 ratings to train on"):
        with_valid_data(data, data)
