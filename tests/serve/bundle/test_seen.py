"""Seen items, against a dict of sets."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from serve.bundle.parquet import write_columns
from serve.bundle.seen import Seen, seen_table, write_seen
from serve.errors import BundleError

N_USERS, N_ITEMS = 60, 40


@pytest.fixture
def rated(rng: np.random.Generator) -> dict[int, list[int]]:
    """A heavy user, users with nothing, and the rest in between."""
    sizes = {1: 0, 2: N_ITEMS, 3: 0, N_USERS: 0}
    return {
        user: sorted(rng.choice(N_ITEMS, sizes.get(user, int(rng.integers(1, 9))), replace=False) + 1)
        for user in range(1, N_USERS + 1)
    }


@pytest.fixture(params=[65_536, 16], ids=["one group", "many groups"])
def path(
    rated: dict[int, list[int]], tmp_path: Path, request: pytest.FixtureRequest, rng: np.random.Generator
) -> Path:
    """The file, from shuffled rows; with 16 rows to a group, users lie across up to four of them."""
    pairs = np.array([(user, item) for user, items in rated.items() for item in items])
    rng.shuffle(pairs)
    write_seen(tmp_path / "seen.parquet", pairs[:, 0], pairs[:, 1], pairs[:, 1] / 2, pairs[:, 0] * 1000)
    table = seen_table(tmp_path / "seen.parquet")
    write_columns(tmp_path / "grouped.parquet", table.read(table.columns), request.param)
    return tmp_path / "grouped.parquet"


def test_each_user(path: Path, rated: dict[int, list[int]]) -> None:
    seen = Seen(path, N_USERS, N_ITEMS)
    assert len(seen) == sum(map(len, rated.values()))
    for user, items in rated.items():
        assert seen.of_user(user).tolist() == items
        history = seen.history(user)
        assert history.item_indices.tolist() == items
        assert history.ratings.tolist() == [item / 2 for item in items]
        assert history.timestamps is not None
        assert history.timestamps.tolist() == [user * 1000] * len(items)
    assert seen.of_user(0).tolist() == []


@pytest.mark.parametrize("budget", [1, 64 << 20], ids=["tiny budget", "budget"])
def test_batches_are_padded_rows_of_each_user(
    path: Path, rated: dict[int, list[int]], budget: int, rng: np.random.Generator
) -> None:
    seen = Seen(path, N_USERS, N_ITEMS, budget)
    for users in (
        [2],
        [1],
        [0],
        [0, 1],
        [2, 2, 5],
        [60, 2, 0, 9],
        list(range(61)),
        rng.integers(0, 61, 200).tolist(),
    ):
        rows = [rated.get(user, []) for user in users]
        width = max(1, *map(len, rows))
        expected = [row + [0] * (width - len(row)) for row in rows]
        result = seen.padded(np.array(users))
        assert result.dtype == np.int64
        assert result.tolist() == expected
    assert seen.padded(np.empty(0, np.int64)).shape == (0, 1)


def test_memory_stays_within_the_budget(tmp_path: Path) -> None:
    """4,000 users of 100 items each: 1.6 MB of items."""
    users, items = np.repeat(np.arange(1, 4001), 100), np.tile(np.arange(1, 101), 4000)
    write_seen(tmp_path / "all", users, items, items)
    table = seen_table(tmp_path / "all")
    write_columns(tmp_path / "seen", table.read(table.columns), 1000)
    seen = Seen(tmp_path / "seen", 4000, 100, budget_bytes=20_000)
    tracemalloc.start()
    for user in range(1, 4001):
        assert len(seen.of_user(user)) == 100
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 200_000


def test_threads_get_the_same_answers(path: Path, rated: dict[int, list[int]]) -> None:
    seen = Seen(path, N_USERS, N_ITEMS, budget_bytes=500)
    users = list(range(N_USERS + 1)) * 5
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda user: seen.of_user(user).tolist(), users))
    assert results == [rated.get(user, []) for user in users]


def test_no_dates_no_timestamps(tmp_path: Path) -> None:
    write_seen(tmp_path / "seen.parquet", np.array([1]), np.array([1]), np.array([3.5]))
    assert Seen(tmp_path / "seen.parquet", 1, 1).history(1).timestamps is None


@pytest.mark.parametrize(
    ("users", "items", "ratings", "message"),
    [
        ([1, 1], [2, 2], [1, 1], "user 1 has item 2 more than once"),
        ([0], [1], [1], "start at 1"),
        ([1], [0], [1], "start at 1"),
        ([1], [1], [np.nan], "not finite"),
        ([1, 2], [1], [1], "lengths differ"),
    ],
    ids=["twice", "user 0", "item 0", "nan", "lengths"],
)
def test_what_can_not_be_written(
    tmp_path: Path, users: list[int], items: list[int], ratings: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_seen(tmp_path / "seen.parquet", np.array(users), np.array(items), np.array(ratings))


@pytest.mark.parametrize(
    ("users", "items", "ratings", "message"),
    [
        ([1, 2], [1, 41], [1, 1], "items from 1 to 41"),
        ([1, 2], [0, 1], [1, 1], "items from 0 to 1"),
        ([1, 2], [-5, 1], [1, 1], "items from -5"),
        ([1, 61], [1, 1], [1, 1], "beyond 60"),
        ([0, 1], [1, 1], [1, 1], "not sorted"),
        ([2, 1], [1, 1], [1, 1], "not sorted"),
        ([1, 1], [2, 1], [1, 1], "not sorted"),
        ([1, 1], [1, 1], [1, 1], "not sorted"),
        ([1, 2], [1, None], [1, 1], "are missing"),
        ([1, None], [1, 1], [1, 1], "range of user_index"),
        ([1, 1], [1, 2], [1, np.inf], "not finite"),
    ],
)
def test_damage_is_found_when_it_is_decoded(
    tmp_path: Path, users: list[Any], items: list[Any], ratings: list[float], message: str
) -> None:
    write_columns(
        tmp_path / "seen.parquet",
        {
            "user_index": pa.array(users, pa.int32()),
            "item_index": pa.array(items, pa.int32()),
            "rating": pa.array(ratings, pa.float32()),
        },
    )

    def read() -> None:
        seen = Seen(tmp_path / "seen.parquet", N_USERS, N_ITEMS)
        seen.of_user(1)
        seen.history(1)

    with pytest.raises(BundleError, match=message):
        read()
