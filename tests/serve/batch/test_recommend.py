from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from fixture_bundles import FIXTURES

from serve.batch.recommend import Recommend
from serve.errors import BadRowError
from serve.runtime.recommender import Recommender

from .conftest import DoJob, read


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_all_users_get_the_lists_of_the_recommender(
    bundle_path: Path, exclude_seen: bool, tmp_path: Path, do: DoJob
) -> None:
    summary = do(Recommend(exclude_seen=exclude_seen), bundle=str(bundle_path), part_rows=12, batch_rows=5)
    recommender = Recommender.load(bundle_path, "cpu")
    users = recommender.users.ids(np.arange(1, len(recommender.users) + 1)).tolist()
    found = read(tmp_path / "out").to_pylist()
    assert [row["user_id"] for row in found] == users
    assert len(summary.parts) == 3
    for row in found:
        expected = recommender.recommend(row["user_id"], exclude_seen=exclude_seen)
        n = expected.count
        assert row["item_ids"] == expected.item_ids[:n].tolist()
        np.testing.assert_allclose(row["scores"], expected.scores[:n], atol=1e-6)
        assert ("ratings" in row) == (expected.ratings is not None)
        if expected.ratings is not None:
            np.testing.assert_allclose(row["ratings"], expected.ratings[:n], atol=1e-6)
        assert row["known"]


def test_lists_end_where_items_do(tmp_path: Path, do: DoJob) -> None:
    recommender = Recommender.load(FIXTURES / "dot-bias", "cpu")
    top_k = recommender.largest_k("recommend")
    do(Recommend(top_k=top_k))
    lengths = [len(row) for row in read(tmp_path / "out")["item_ids"].to_pylist()]
    rated = [len(recommender.seen.of_user(user)) for user in range(1, len(recommender.users) + 1)]
    assert lengths == [min(top_k, len(recommender.items) - n) for n in rated]
    assert min(lengths) < top_k


@pytest.mark.parametrize(
    ("bundle", "columns"),
    [
        ("dot-bias", ["item_id", "score", "rating"]),
        ("parts", ["item_id", "score", "rating"]),
        ("ranking", ["item_id", "score"]),
    ],
)
def test_exploded_lists_are_the_same_items(
    tmp_path: Path, do: DoJob, bundle: str, columns: list[str]
) -> None:
    options = {"bundle": str(FIXTURES / bundle)}
    do(Recommend(top_k=4), **options)
    do(Recommend(top_k=4, explode=True), output=str(tmp_path / "exploded"), **options)
    exploded, lists = read(tmp_path / "exploded"), read(tmp_path / "out")
    assert exploded.column_names == ["user_id", "known", "rank", *columns]
    assert lists.column_names == ["user_id", "known", *(f"{name}s" for name in columns)]
    flat = [
        (row["user_id"], rank, *values)
        for row in lists.to_pylist()
        for rank, values in enumerate(zip(*(row[f"{name}s"] for name in columns), strict=True), 1)
    ]
    names = ("user_id", "rank", *columns)
    assert [tuple(row[name] for name in names) for row in exploded.to_pylist()] == flat


USERS = "user_id\n10\nx\n777\n20\n"


def test_unknown_users(tmp_path: Path, do: DoJob) -> None:
    (tmp_path / "users.csv").write_text(USERS.replace("x\n", ""))
    assert do(Recommend(top_k=3), tmp_path / "users.csv").unknown == 1
    rows = read(tmp_path / "out").to_pylist()
    assert [(row["user_id"], row["known"], len(row["item_ids"])) for row in rows] == [
        (10, True, 3),
        (777, False, 3),
        (20, True, 3),
    ]
    average = Recommender.load(FIXTURES / "dot-bias", "cpu").recommend(777, 3)
    assert rows[1]["item_ids"] == average.item_ids.tolist()
    do(Recommend(top_k=3, unknown="null"), tmp_path / "users.csv", output=str(tmp_path / "null"))
    rows = read(tmp_path / "null").to_pylist()
    assert (rows[1]["item_ids"], rows[1]["scores"], rows[1]["known"]) == (None, None, False)
    assert rows[2]["item_ids"] is not None
    flat = do(
        Recommend(top_k=2, unknown="null", explode=True),
        tmp_path / "users.csv",
        output=str(tmp_path / "flat"),
    )
    assert flat.unknown == 1, "a user, not a row of the list"
    rows = read(tmp_path / "flat").to_pylist()
    assert [(row["user_id"], row["rank"], row["item_id"] is None) for row in rows] == [
        (10, 1, False),
        (10, 2, False),
        (777, None, True),
        (20, 1, False),
        (20, 2, False),
    ]
    with pytest.raises(BadRowError, match=r"line 3: user_id '777': not in the bundle"):
        do(Recommend(unknown="error"), tmp_path / "users.csv", output=str(tmp_path / "error"))


def test_formats(tmp_path: Path, do: DoJob) -> None:
    (tmp_path / "users.csv").write_text(USERS)
    options = {"on_bad_row": "quarantine"}
    do(Recommend(top_k=2), tmp_path / "users.csv", output=str(tmp_path / "p"), **options)
    do(Recommend(top_k=2), tmp_path / "users.csv", output=str(tmp_path / "j"), format="jsonl", **options)
    lines = (tmp_path / "j" / "part-00000.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == read(tmp_path / "p").to_pylist()
    explode = Recommend(top_k=2, explode=True)
    do(explode, tmp_path / "users.csv", output=str(tmp_path / "c"), format="csv", **options)
    do(explode, tmp_path / "users.csv", output=str(tmp_path / "e"), **options)
    with (tmp_path / "c" / "part-00000.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = read(tmp_path / "e").to_pylist()
    assert [(int(r["user_id"]), r["known"], int(r["rank"]), int(r["item_id"])) for r in rows] == [
        (r["user_id"], str(r["known"]).lower(), r["rank"], r["item_id"]) for r in expected
    ]
    assert [np.float32(r["score"]) for r in rows] == [np.float32(r["score"]) for r in expected]
