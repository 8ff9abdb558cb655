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
from recsys.data.splits import SplitRecipe, give_share, split
from recsys.errors import ConfigError, DataError

Rows = list[tuple[int, int]]
KINDS = ["random", "stratified", "stratified-by-item", "chronological", "by-user", "leave-last-out"]
rows = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=10, max_size=60)


def interactions(rows: Rows, timed: bool = True) -> Interactions:
    """(user, time) each; every rating is of another item."""
    names, user_index = np.unique([user for user, _ in rows], return_inverse=True)
    times = np.array([time for _, time in rows]) if timed else None
    items = np.arange(1, len(rows) + 1)
    return made_up.interactions(user_index + 1, items, np.ones(len(rows)), users=names, timestamps=times)


@given(rows, st.sampled_from(KINDS), st.integers(0, 3))
def test_each_rating_is_on_one_side(rows: Rows, kind: Any, seed: int) -> None:
    data = interactions(rows)
    recipe = SplitRecipe(kind, 0.25, seed)
    try:
        parts = split(data, recipe)
    except DataError:
        # One user only, one time only, or no user or item with enough ratings.
        assert len(set(data.user_index)) < 3 or kind not in ("random", "by-user")
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


def stratified_by_loops(groups: np.ndarray, ratio: float, seed: int) -> list[int]:
    """Held-out positions by `python_stratified_split`, one group at a time."""
    numbers = np.random.RandomState(seed).rand(len(groups))
    held_out = []
    for group in np.unique(groups):
        rows = sorted(np.flatnonzero(groups == group), key=lambda row: numbers[row])
        held_out += [row for rank, row in enumerate(rows, 1) if rank > round(ratio * len(rows))]
    return sorted(held_out)


@given(rows, st.sampled_from([0.1, 0.25, 0.3, 0.5]), st.integers(0, 3))
def test_stratified_against_a_loop(rows: Rows, fraction: float, seed: int) -> None:
    users = np.array([user for user, _ in rows])
    items = np.array([time for _, time in rows])  # as good as any other numbers
    data = made_up.interactions(users + 1, items + 1, np.ones(len(rows)))
    for kind, groups in (("stratified", users), ("stratified-by-item", items)):
        expected = stratified_by_loops(groups, 1 - fraction, seed)
        if expected:
            found = split(data, SplitRecipe(kind, fraction, seed)).valid  # type: ignore[arg-type]
            assert found.tolist() == expected


@pytest.mark.parametrize(
    ("kind", "counts"), [("stratified", (74_992, 25_008)), ("stratified-by-item", (75_066, 24_934))]
)
def test_stratified_parts_of_ml100k_have_the_published_sizes(
    ml100k_zip: Path, kind: Any, counts: tuple[int, int]
) -> None:
    parts = split(load("ml-100k", from_file=ml100k_zip), SplitRecipe(kind, 0.25, 42))
    assert (len(parts.train), len(parts.valid)) == counts


@given(rows, st.sampled_from([0.1, 0.3, 0.7]))
def test_a_cut_in_time_holds_out_the_latest_and_parts_no_ties(rows: Rows, fraction: float) -> None:
    times = np.array([time for _, time in rows])
    try:
        parts = split(interactions(rows), SplitRecipe("chronological", fraction))
    except DataError:
        return  # the ties of the earliest time are held out, too
    assert times[parts.train].max() < times[parts.valid].min()
    # Without the ratings of its earliest time, the held-out part is smaller than was asked for.
    assert np.sum(times > times[parts.valid].min()) < round(len(rows) * fraction) <= len(parts.valid)


def test_nothing_is_held_out_if_that_is_asked_for() -> None:
    data = interactions([(1, 1), (2, 1)])
    for kind in ("random", "stratified", "stratified-by-item", "chronological", "by-user"):
        recipe = SplitRecipe(kind, 0.0)
        parts = split(data, recipe)
        assert not recipe.holds_out
        assert (parts.train.tolist(), parts.valid.tolist()) == ([0, 1], [])
    assert SplitRecipe("leave-last-out", 0.0).holds_out


def test_new_users_give_a_share_of_their_ratings() -> None:
    data = interactions([(user, 0) for user in range(4) for _ in range(1 + 3 * user)])
    parts = split(data, SplitRecipe("by-user", 0.5, 1))
    given = give_share(data, parts, 0.8)
    for user in np.unique(data.user_index[parts.valid]).tolist():
        n = 1 + 3 * (user - 1)
        assert np.sum(data.user_index[given.train] == user) == round(0.8 * n)
    assert set(parts.train) < set(given.train)
    assert sorted([*given.train, *given.valid]) == list(range(len(data)))


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
    for kind in ("leave-last-out", "chronological"):
        with pytest.raises(DataError, match=f"has no timestamps, which '{kind}' needs"):
            split(interactions([(1, 1), (1, 2)], timed=False), SplitRecipe(kind))
    with pytest.raises(DataError, match="too few"):  # all at one time
        split(interactions([(1, 1), (2, 1)]), SplitRecipe("chronological", 0.5))
    with pytest.raises(ConfigError, match="--valid-data"):
        split(interactions([(1, 1), (1, 2)]), SplitRecipe("valid-data", valid_data="0" * 64))
    with pytest.raises(DataError, match="too few"):
        split(interactions([(1, 1), (1, 2)]), SplitRecipe("by-user"))
    with pytest.raises(DataError, match="too few"):
        split(interactions([(1, 1)]), SplitRecipe())


def test_wrong_recipes() -> None:
    fractions = [{"valid_fraction": value} for value in (-0.1, 1.0, float("nan"))]
    folds: list[dict[str, Any]] = [
        {"kind": "fold"},
        {"fold": 1},
        *({"kind": "fold", "fold": n} for n in (0, 6)),
    ]
    seeds = {"seed": -1}, {"kind": "stratified", "seed": 1 << 32}
    files = {"kind": "valid-data"}, {"valid_data": "0" * 64}
    for arguments in ({"kind": "by-item"}, *seeds, *fractions, *folds, *files):
        with pytest.raises(ConfigError, match=r"kind|fraction|seed|fold"):
            SplitRecipe(**arguments)
