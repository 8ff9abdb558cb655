"""What is odd is said; what is usual is not."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from made_up import interactions

from recsys.cli import cli
from recsys.data import load
from recsys.data.oddities import oddities

RNG = np.random.default_rng(0)
N = 2000
USERS, ITEMS = RNG.integers(1, 61, N), RNG.integers(1, 41, N)
STARS = RNG.integers(1, 6, N).astype(float)
TIMES = RNG.integers(1_500_000_000, 1_600_000_000, N)


def with_few(values: np.ndarray, *odd: float) -> np.ndarray:
    values = values.copy()
    values[: len(odd)] = odd
    return values


def dates(n: int) -> np.ndarray:
    return 20_210_000 + 100 * RNG.integers(1, 13, n) + RNG.integers(1, 29, n)


@pytest.mark.parametrize(
    ("ratings", "said"),
    [
        (np.ones(N), r"All ratings are 1: .* --implicit"),
        (np.full(N, 0.004), r"All ratings are 0.004"),
        (with_few(STARS, 50_000), r"^1 of 2,000 ratings lie far from the others, which are 1 to 5: 50000\."),
        (with_few(STARS, -500, 800, 800), r"^3 of 2,000 ratings lie far .* -500, 800\."),
        (with_few(STARS * 1e-5, 1.0), r"lie far"),
        (np.where(RNG.random(N) < 0.2, -1, STARS), r"ratings are -1, the others 1 to 5.*'not rated'"),
        (np.where(RNG.random(N) < 0.5, 0, STARS), r"ratings are 0, the others 1 to 5"),
        (
            np.where(RNG.random(N) < 0.3, 99, RNG.uniform(-10, 10, N).round(2)),
            r"are 99, the others -9.99 to 9.99",
        ),
        (STARS * 1e7, r"beyond 16,777,216 are rounded to seven digits.* largest is 50000000\."),
        (np.ceil(np.exp(RNG.normal(1, 2, N))), r"look like counts.* --implicit"),
    ],
)
def test_odd_ratings(ratings: np.ndarray, said: str) -> None:
    (found,) = oddities(interactions(USERS, ITEMS, ratings))
    assert re.search(said, found), found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (np.zeros(N, np.int64), "All times lie in 1970: 0 to 0 seconds"),
        (np.arange(N), "All times lie in 1970: 0 to 1999 seconds"),
        (dates(N), r"look like dates written as 2021\d{4}, .* Write them as 2021-"),
        (dates(N) * 10 + 1, r"look like dates written as 202103011230"),  # without the last three digits
        (with_few(TIMES, 0, 0), r"2 of 2,000 times lie in 1970, the first at 0 seconds"),
        (TIMES * 30, "Times reach the year 3"),
        (np.full(N, 1_500_000_000), "All times are equal, 2017-07-14 02:40:00"),
    ],
)
def test_odd_times(times: np.ndarray, said: str) -> None:
    (found,) = oddities(interactions(USERS, ITEMS, STARS, timestamps=times))
    assert re.search(said, found), found


def test_one_user_or_item_that_dominates() -> None:
    users, items = np.where(np.arange(N) < 800, 7, USERS), np.where(np.arange(N) < 600, 9, ITEMS)
    user, item = oddities(interactions(users, items, STARS))
    assert user.startswith("User 7 has 4")
    assert item.startswith("Item 9 has 3")


@pytest.mark.parametrize(
    "ratings",
    [
        STARS,
        STARS / 2,
        STARS * 1e5,
        STARS - 1,
        RNG.integers(0, 2, N),
        np.where(RNG.random(N) < 0.5, -1, 1),
        RNG.uniform(-10, 10, N),
        RNG.uniform(0, 0.01, N),
        RNG.integers(0, 101, N),
        np.where(RNG.random(N) < 0.01, 1, 5),
        RNG.normal(0, 1, N),
    ],
)
def test_usual_ratings_are_not_odd(ratings: np.ndarray) -> None:
    assert oddities(interactions(USERS, ITEMS, ratings, timestamps=TIMES)) == []


def test_an_outlier_in_small_data_is_odd() -> None:
    ratings = np.array([1, 2, 3, 4, 5, 5, 4, 3, 2, 50_000.0])
    (found,) = oddities(interactions(np.arange(1, 11), np.arange(1, 11), ratings))
    assert found.startswith("1 of 10 ratings lie far from the others, which are 1 to 5: 50000.")


def test_movielens_is_not_odd() -> None:
    assert oddities(load("ml-latest-small")) == []


def test_describe_and_train_say_it(tmp_path: Path, caplog: Any) -> None:
    rows = [f"{u},{i},{(u * i) % 5 + 1}" for u in range(1, 30) for i in range(1, 20)]
    (tmp_path / "r.csv").write_text("\n".join(["user_id,item_id,rating", "99,1,50000", *rows]) + "\n")
    described = CliRunner().invoke(cli, ["data", "describe", str(tmp_path / "r.csv")])
    assert "1 of 552 ratings lie far" in " ".join(described.output.split())
    arguments = ["--data", str(tmp_path / "r.csv"), "--model", "ease", "--output", str(tmp_path / "run")]
    with caplog.at_level(logging.WARNING):
        CliRunner().invoke(cli, ["train", *arguments], catch_exceptions=False)
    assert "1 of 552 ratings lie far" in caplog.text
