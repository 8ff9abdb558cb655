"""Which files and columns of an input are read, and which inputs are refused before anything is written."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixture_bundles import FIXTURES

from serve.batch.recommend import Recommend
from serve.batch.score import Score
from serve.errors import InputError, OutputError, RequestError

from .conftest import BUNDLE, DoJob, as_given, contents, make_pairs, read, score_command


@pytest.mark.slow
def test_more_files_than_may_be_open(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(150):
        pq.write_table(
            pa.table({"user_id": [10], "item_id": [1001]}), tmp_path / "in" / f"{number:03d}.parquet"
        )
    limit = (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    done = subprocess.run(
        score_command("--input", tmp_path / "in", "--output", tmp_path / "out", "--json"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows_out"] == 150


def test_many_files_are_one_input_in_order_of_name(tmp_path: Path, do: DoJob) -> None:
    pairs = make_pairs(BUNDLE, 60)
    for name, start in (("b/2", 20), ("b/10", 40), ("a", 0)):
        path = tmp_path / "in" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pairs.slice(start, 20), path)
    (tmp_path / "in" / "_SUCCESS.json").write_text("{}")
    do(Score(), tmp_path / "in")
    ordered = pa.concat_tables([pairs.slice(0, 20), pairs.slice(40, 20), pairs.slice(20, 20)])
    assert as_given(read(tmp_path / "out"), pairs).equals(ordered)
    do(Score(), f"{tmp_path}/in/**/**/*.parquet", output=str(tmp_path / "glob"))
    assert len(read(tmp_path / "glob")) == 60, "a file that matches twice is read once"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("userId,movieId\n10,1001\n", {}),
        ("movie;User-ID\n1001;10\n", {"delimiter": ";"}),
        ("a,b\n10,1001\n", {"user_column": "a", "item_column": "b"}),
        ("user_id,item_id,userId\n7,1001,10\n", {"user_column": "userId"}),
    ],
)
def test_columns_by_usual_spellings_or_by_name(
    text: str, options: dict[str, str], tmp_path: Path, do: DoJob
) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    do(Score(unknown="error"), path, **options)
    assert read(tmp_path / "out").column_names[:2] == text.splitlines()[0].replace(";", ",").split(",")[:2]
    do(Recommend(unknown="error"), path, output=str(tmp_path / "lists"), **options)
    assert read(tmp_path / "lists")["user_id"].to_pylist() == [10]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_recommend_reads_the_users_only(kind: str, tmp_path: Path, do: DoJob) -> None:
    path = tmp_path / f"users.{kind}"
    if kind == "csv":
        path.write_bytes(b"name,user_id\n\xff,10\nb,20\n")
    else:
        name = pa.array([b"\xff", b"b"]).view(pa.string())
        pq.write_table(pa.table({"name": name, "user_id": [10, 20]}), path)
    assert do(Recommend(), path).rows_out == 2
    with pytest.raises(InputError, match="no column for item"):
        do(Score(), path, output=str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"u,i\n1,2\n", "no column for user .*--user-column"),
        (b"user_id,item_id,item_id\n1,2,3\n", "more than one column named 'item_id'"),
        (b"user_id,userId,item_id\n1,2,3\n", "choose with --user-column"),
        (b"user_id,item_id,score\n1,2,3\n", "has a column score"),
        (b"user_id;item_id\n1;2\n", "--delimiter ';'"),
        (b'user_id,item_id\n10,"1001\n', "never closed"),
    ],
)
def test_text_that_holds_no_pairs(content: bytes, message: str, tmp_path: Path, do: DoJob) -> None:
    (tmp_path / "pairs.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        do(Score(), tmp_path / "pairs.csv")
    assert contents(tmp_path) == {"pairs.csv": content}


def test_inputs_that_can_not_be_read(tmp_path: Path, do: DoJob) -> None:
    pairs = make_pairs(BUNDLE, 2000)
    pq.write_table(pairs, tmp_path / "pairs.parquet", write_page_checksum=True)
    spoilt = bytearray((tmp_path / "pairs.parquet").read_bytes())
    spoilt[200:1200] = bytes(1000)
    (tmp_path / "spoilt.parquet").write_bytes(spoilt)
    (tmp_path / "pairs.xlsx").write_text("")
    (tmp_path / "mixed").mkdir()
    pq.write_table(pairs, tmp_path / "mixed" / "a.parquet")
    (tmp_path / "mixed" / "b.csv").write_text("user_id,item_id\n")
    pq.write_table(pairs.set_column(1, "user_id", pa.nulls(2000, pa.float64())), tmp_path / "float.parquet")
    for source, message in (
        (tmp_path / "spoilt.parquet", "can't be read as Parquet"),
        (" ", "path is empty"),
        (tmp_path / "nothing.parquet", "no such file"),
        (tmp_path / "pairs.xlsx", "its name must end in"),
        (tmp_path / "mixed", "must be alike"),
        (tmp_path / "float.parquet", "user_id is of type double"),
    ):
        with pytest.raises(InputError, match=message):
            do(Score(), source)
    with pytest.raises(InputError, match="the bundle's ids are strings"):
        do(Score(), tmp_path / "pairs.parquet", bundle=str(FIXTURES / "dot-bias-string-ids"))
    with pytest.raises(InputError, match="CSV has no lists"):
        do(Recommend(), format="csv")
    with pytest.raises(RequestError, match="top_k must lie in 1 to"):
        do(Recommend(top_k=5000))
    assert not (tmp_path / "out").exists()


def test_an_output_never_replaces_what_is_read(tmp_path: Path, do: DoJob) -> None:
    pq.write_table(make_pairs(BUNDLE, 1000), tmp_path / "pairs.parquet")
    do(Score(), tmp_path / "pairs.parquet")
    before = contents(tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for source in (tmp_path / "out", tmp_path / "link", f"{tmp_path}/out/part-*.parquet"):
        with pytest.raises(OutputError, match="which would be replaced"):
            do(Recommend(), source, overwrite=True)
    assert contents(tmp_path / "out") == before
    (tmp_path / "out").rename(tmp_path / ".new.partial")
    with pytest.raises(OutputError, match="which would be replaced"):
        do(Recommend(), tmp_path / ".new.partial", output=str(tmp_path / "new"), overwrite=True)
    assert contents(tmp_path / ".new.partial") == before
    bundle = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    with pytest.raises(OutputError, match="lies in the bundle"):
        do(Recommend(), output=str(bundle / "deep" / "out"))
    assert not (bundle / "deep").exists()
