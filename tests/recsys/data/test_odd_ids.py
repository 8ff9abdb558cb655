"""Ids that are hardly meant are said: placeholders, look-alikes, words among numbers."""

from __future__ import annotations

import pandas as pd
import pytest

from recsys.data.odd_ids import odd_ids

NUMBERS = [str(n) for n in range(1, 8)]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["ann", "NULL", "nan"], r"^2 user ids are 'NULL', 'nan': if it stands for no id"),
        ([*NUMBERS, r"\N"], r"^1 user id is '\\\\N'"),
        (["ann", "bob", "ann\u00a0"], r"^1 user id is written in several ways.*'ann' and 'ann\\xa0'"),
        (["caf\u00e9", "cafe\u0301"], "several ways"),
        (["a", "\ufeffa"], "several ways"),
        (["x", "7", "007"], r"'7' and '007'"),
        ([*NUMBERS, "1e3"], r"^1 user id is '1e3', where the other 7 are plain integers"),
        ([*NUMBERS, "user_id", "+5"], r"^2 user ids are 'user_id', '\+5', where"),
    ],
)
def test_what_is_odd(ids: list[str], said: str) -> None:
    (oddity,) = odd_ids("user", pd.Series(ids, dtype="str"))
    assert pd.Series([oddity]).str.contains(said)[0], oddity


@pytest.mark.parametrize(
    "ids",
    [
        NUMBERS,
        ["0155061224", "034545104X", "1"],  # a third of ISBNs are plain
        ["ann", "Ann", "1", "anna"],
        ["a1", "a01"],
        ["\u00e9", "e"],
    ],
)
def test_what_is_usual(ids: list[str]) -> None:
    assert not list(odd_ids("item", pd.Series(ids, dtype="str")))
    assert not list(odd_ids("item", pd.Series(range(3))))
