from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import Interactions, load
from recsys.data.splits import SplitRecipe, split
from recsys.errors import ConfigError, DataError

Rows = list[tuple[int, int]]
rows = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=10, max_size=60)


def interactions(rows: Rows, timed: bool = True) -> Interactions:
    """(user, time) each; every rating is of another item."""
    names, user_index = np.unique([user for user, _ in rows], return_inverse=True)
    times = np.array([time for _, time in rows]) if timed else None
    items = np.arange(1, len(rows) + 1)
    return made_up.interactions(user_index + 1, items, np.ones(len(rows)), users=names, timestamps=times)


@given(rows, st.sampled_from(["random", "by-user", "leave-last-out"]), st.integers(0, 3))
def test_each_rating_is_on_one_side(rows: Rows, kind: Any, seed: int) -> None:
    data = interactions(rows)
    recipe = SplitRecipe(kind, 0.25, seed)
    try:
        parts = split(data, recipe)
    except DataError:
        # One user only, or no user with two ratings.
        assert len(set(data.user_index)) < 3 or kind == "leave-last-out"
        return
    assert parts.train.dtype == parts.valid.dtype == np.int64
    assert sorted([*parts.train, *parts.valid]) == list(range(len(rows)))
    assert parts.train.tolist() == sorted(parts.train)
    again = split(data, SplitRecipe(**json.loads(json.dumps(dataclasses.asdict(recipe)))))
    np.testing.assert_array_equal(parts.valid, again.valid)
    if kind == "random":
        assert len(parts.valid) == round(len(rows) * 0.25)
    if kind == "by-user":
        assert not set(data.user_index[parts.train]) & set(data.user_index[parts.valid])


@given(rows)
def test_leave_last_out_against_a_loop(rows: Rows) -> None:
    last: dict[int, int] = {}
    for position, (user, time) in enumerate(rows):
        if user not in last or time >= rows[last[user]][1]:
            last[user] = position
    counts = [user for user, _ in rows]
    expected = sorted(position for user, position in last.items() if counts.count(user) > 1)
    np.testing.assert_array_equal(split(interactions(rows), SplitRecipe("leave-last-out")).valid, expected)


def test_seeds_differ_and_the_default_seed_is_pinned() -> None:
    data = interactions([(n, 0) for n in range(20)])
    valid = split(data, SplitRecipe()).valid
    assert valid.tolist() != split(data, SplitRecipe(seed=43)).valid.tolist()
    # A split that changes between releases would let old runs be measured on what they were trained on.
    assert valid.tolist() == [7, 9, 14, 15]


def test_ml100k_folds_are_the_published_ones(ml100k_zip: Path) -> None:
    data = load("ml-100k", from_file=ml100k_zip)
    frame = pd.DataFrame(
        {
            "user": data.users["user_id"].to_numpy()[data.user_index - 1],
            "item": data.items["item_id"].to_numpy()[data.item_index - 1],
            "rating": data.ratings.astype(int),
            "time": data.timestamps,
        }
    )
    with zipfile.ZipFile(ml100k_zip) as archive:
        for fold in range(1, 6):
            parts = split(data, SplitRecipe("fold", fold=fold))
            for positions, name in ((parts.valid, f"u{fold}.test"), (parts.train, f"u{fold}.base")):
                with archive.open(f"ml-100k/{name}") as member:
                    published = pd.read_csv(member, sep="\t", names=list(frame))
                ours = frame.iloc[positions].sort_values(["user", "item"]).reset_index(drop=True)
                theirs = published.sort_values(["user", "item"]).reset_index(drop=True)
                pd.testing.assert_frame_equal(ours, theirs)


def test_folds_of_other_data_are_refused(ml100k_zip: Path) -> None:
    for other in (load("ml-latest-small"), load("ml-100k", from_file=ml100k_zip, item_key="title")):
        with pytest.raises(DataError, match="is not MovieLens 100K in its original order"):
            split(other, SplitRecipe("fold", fold=1))


def test_what_can_not_be_split() -> None:
    with pytest.raises(DataError, match="has no timestamps"):
        split(interactions([(1, 1), (1, 2)], timed=False), SplitRecipe("leave-last-out"))
    with pytest.raises(DataError, match="too few"):
        split(interactions([(1, 1), (1, 2)]), SplitRecipe("by-user"))
    with pytest.raises(DataError, match="too few"):
        split(interactions([(1, 1)]), SplitRecipe())


def test_wrong_recipes() -> None:
    fractions = [{"valid_fraction": value} for value in (0.0, 1.0, float("nan"))]
    folds: list[dict[str, Any]] = [
        {"kind": "fold"},
        {"fold": 1},
        *({"kind": "fold", "fold": n} for n in (0, 6)),
    ]
    for arguments in ({"kind": "by-item"}, {"seed": -1}, *fractions, *folds):
        with pytest.raises(ConfigError, match=r"kind|fraction|seed|fold"):
            SplitRecipe(**arguments)
