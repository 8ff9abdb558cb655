from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from fixture_bundles import FIXTURES

from serve.batch.fragments import load
from serve.batch.job import Plan
from serve.batch.score import Score
from serve.errors import BadRowError
from serve.runtime.recommender import Recommender

from .conftest import DoJob, as_given, make_pairs, read

LINES = "user_id,item_id,note\n"


def quarantined(output: Path) -> list[dict[str, Any]]:
    """The bad rows of a job, in order."""
    text = "".join(path.read_text() for path in sorted((output / "_quarantine").iterdir()))
    return [json.loads(line) for line in text.splitlines()]


def test_the_same_rows_with_the_scores_of_the_recommender(
    bundle_path: Path, tmp_path: Path, do: DoJob
) -> None:
    pairs = make_pairs(bundle_path, 500)
    pq.write_table(pairs, tmp_path / "pairs.parquet", row_group_size=64)
    summary = do(Score(), tmp_path / "pairs.parquet", bundle=str(bundle_path), part_rows=200, batch_rows=50)
    found = read(tmp_path / "out")
    assert found.schema.field("user_id").nullable is found.schema.field("item_id").nullable is False
    assert as_given(found, pairs).equals(pairs)
    expected = Recommender.load(bundle_path, "cpu").score(
        pairs["user_id"].to_pylist(), pairs["item_id"].to_pylist()
    )
    # Other batch sizes may round otherwise in the last digit.
    np.testing.assert_allclose(found["score"].to_numpy(), expected.scores, atol=1e-6)
    assert found["known"].to_pylist() == expected.known.tolist()
    assert not all(found["known"].to_pylist())
    assert (summary.rows_in, summary.rows_out, summary.quarantined) == (500, 500, 0)
    assert [part.rows for part in summary.parts] == [192, 192, 116], "row groups of 64 are never split"


def test_a_csv_is_the_same_pairs(bundle_path: Path, tmp_path: Path, do: DoJob) -> None:
    pairs = make_pairs(bundle_path, 300).drop_columns(["when"])
    (tmp_path / "in").mkdir()
    pq.write_table(pairs, tmp_path / "in" / "pairs.parquet")
    do(Score(), tmp_path / "in", bundle=str(bundle_path), output=str(tmp_path / "a"))
    pa_csv.write_csv(pairs, tmp_path / "pairs.csv")
    do(
        Score(),
        tmp_path / "pairs.csv",
        bundle=str(bundle_path),
        output=str(tmp_path / "b"),
        part_rows=77,
        batch_rows=10,
    )
    one, other = read(tmp_path / "a"), read(tmp_path / "b")
    for name in ("user_id", "item_id", "known"):
        assert one[name].to_pylist() == other[name].to_pylist()
    np.testing.assert_allclose(one["score"].to_numpy(), other["score"].to_numpy(), atol=1e-6)
    assert other["note"].to_pylist() == [note or "" for note in one["note"].to_pylist()]


@pytest.mark.parametrize("unknown", ["average", "null"])
def test_unknown_ids_get_what_was_asked_for(unknown: str, tmp_path: Path, do: DoJob) -> None:
    (tmp_path / "pairs.csv").write_text(LINES + "10,1001,\n999,1001,\n10,999,\n")
    summary = do(Score(unknown=unknown), tmp_path / "pairs.csv")  # type: ignore[arg-type]
    assert (summary.rows_in, summary.unknown) == (3, 2)
    found = read(tmp_path / "out")
    assert found["known"].to_pylist() == [True, False, False]
    recommender = Recommender.load(FIXTURES / "dot-bias", "cpu")
    averages = [
        recommender.score(10, 1001).scores,
        recommender.score(999, 1001).scores,
        recommender.score(10, 999).scores,
    ]
    expected = averages if unknown == "average" else [averages[0], None, None]
    assert found["score"].to_pylist() == pytest.approx(expected, abs=1e-6)


SPOILT = (
    LINES
    + "10,1001,fine\nten,1001,word\n10,,empty\n10\n20,1002,also fine\n"
    + "99999999999999999999,1001,big\n10,1.5,half\n777,1001,who\n"
)
REASONS = [
    (3, "user_id", "not an integer of 64 bits", "ten"),
    (4, "item_id", "no id", ""),
    (5, None, "1 cells where the heading has 3", "10"),
    (7, "user_id", "not an integer of 64 bits", "99999999999999999999"),
    (8, "item_id", "not an integer of 64 bits", "1.5"),
    (9, "user_id", "not in the bundle", "777"),
]


def test_bad_rows_are_set_aside_with_their_reasons(tmp_path: Path, do: DoJob) -> None:
    (tmp_path / "pairs.csv").write_text(SPOILT)
    summary = do(
        Score(unknown="error"), tmp_path / "pairs.csv", on_bad_row="quarantine", part_rows=5, batch_rows=2
    )
    assert (summary.rows_in, summary.rows_out, summary.quarantined) == (8, 2, 6)
    assert read(tmp_path / "out")["note"].to_pylist() == ["fine", "also fine"]
    found = quarantined(tmp_path / "out")
    assert [(row["line"], row["column"], row["reason"], row["value"]) for row in found] == REASONS
    assert {row["source"] for row in found} == {str(tmp_path / "pairs.csv")}


def test_a_bad_row_stops_the_job_and_nothing_appears(tmp_path: Path, do: DoJob) -> None:
    (tmp_path / "pairs.csv").write_text(SPOILT)
    with pytest.raises(BadRowError, match=r"pairs\.csv, line 3: user_id 'ten': not an integer"):
        do(Score(), tmp_path / "pairs.csv")
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadRowError, match="more than 3 rows are bad"):
        do(Score(), tmp_path / "pairs.csv", on_bad_row="quarantine", max_bad_rows=3, overwrite=True)
    assert not (tmp_path / "out").exists()
    do(Score(), tmp_path / "pairs.csv", on_bad_row="quarantine", max_bad_rows=5, resume=True)
    assert len(read(tmp_path / "out")) == 3, "what happens to bad rows may change between stop and resumption"


def test_parquet_rows_without_an_id_or_with_invalid_text_are_bad_rows(tmp_path: Path, do: DoJob) -> None:
    note = pa.array([b"a", b"b", b"\xff"]).view(pa.string())
    users, items = pa.array([10, None, 20], pa.int32()), pa.array([1001, 1002, 1003], pa.uint64())
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"user_id": users, "item_id": items, "note": note}), path)
    with pytest.raises(BadRowError, match="row 2: user_id None"):
        do(Score(), path)
    summary = do(Score(), path, on_bad_row="quarantine", overwrite=True)
    assert (summary.rows_out, summary.quarantined) == (1, 2)
    assert [row["row"] for row in quarantined(tmp_path / "out")] == [2, 3]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_every_kind_of_string_is_an_id(kind: pa.DataType, tmp_path: Path, do: DoJob) -> None:
    bundle = FIXTURES / "dot-bias-string-ids"
    pairs = make_pairs(bundle, 40)
    for name in ("user_id", "item_id"):
        pairs = pairs.set_column(pairs.schema.get_field_index(name), name, pairs[name].cast(kind))
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    do(Score(), tmp_path / "pairs.parquet", bundle=str(bundle))
    assert as_given(read(tmp_path / "out"), pairs).equals(pairs)


def test_an_input_without_good_rows_gives_an_output_without_rows(tmp_path: Path, do: DoJob) -> None:
    (tmp_path / "pairs.csv").write_text(LINES)
    assert do(Score(), tmp_path / "pairs.csv").rows_out == 0
    assert read(tmp_path / "out").column_names == ["user_id", "item_id", "note", "score", "known"]
    (tmp_path / "pairs.csv").write_text(LINES + "1\n2\n")
    summary = do(Score(), tmp_path / "pairs.csv", on_bad_row="quarantine", overwrite=True)
    assert (summary.rows_out, summary.quarantined) == (0, 2)


@pytest.mark.parametrize("tf32", [False, True])
def test_a_job_says_whether_its_workers_use_tf32(tf32: bool, tmp_path: Path, do: DoJob) -> None:
    plans: list[Plan] = []
    pairs = make_pairs(FIXTURES / "dot-bias", 50)
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    do(Score(), tmp_path / "pairs.parquet", tf32=tf32, on_plan=lambda plan, done: plans.append(plan))
    assert [load(plan.job, plan.device).tf32 for plan in plans] == [tf32]
    assert as_given(read(tmp_path / "out"), pairs).equals(pairs)


def test_pandas_is_not_imported(tmp_path: Path) -> None:
    """It would take longer than a small job does."""
    pq.write_table(make_pairs(FIXTURES / "dot-bias", 500), tmp_path / "pairs.parquet")
    code = """
import sys
from serve.batch.job import Job
from serve.batch.recommend import Recommend
from serve.batch.run import run_job
from serve.batch.score import Score
bundle, folder = sys.argv[1:]
for n, task in enumerate([Score(unknown="null"), Recommend(), Recommend(explode=True)]):
    run_job(Job(task=task, bundle=bundle, input=f"{folder}/pairs.parquet", output=f"{folder}/{n}"))
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(FIXTURES / "dot-bias"), str(tmp_path)], check=True)
