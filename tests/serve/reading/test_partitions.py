"""Names of folders -> columns."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from serve.reading.files import find_files, open_source
from serve.reading.partitions import partitions


def test_values_have_one_type_over_all_files() -> None:
    names = ["day=2024-01-01/hour=09/n=1/a.csv", "day=2024-01-02/hour=10/n=20/a.csv"]
    assert partitions([*names, "day=__HIVE_DEFAULT_PARTITION__/n=-3/a=b.csv", "plain/c.csv"]) == [
        {"day": "2024-01-01", "hour": "09", "n": 1},
        {"day": "2024-01-02", "hour": "10", "n": 20},
        {"day": None, "n": -3},
        {},
    ]
    assert partitions(["who=a%2Fb%3Dc/x.csv", "n=1.0/x.csv", "n=7/x.csv"]) == [
        {"who": "a/b=c"},
        {"n": "1.0"},
        {"n": "7"},
    ]


def test_they_are_columns_of_every_row(tmp_path: Path) -> None:
    for user in (7, 8):
        folder = tmp_path / f"user_id={user}" / "item_id=3"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"item_id": [1, 2], "rating": [3.0, 4.0]}), folder / "a.parquet")
        (folder / "b.csv").write_text("rating\n5\n\nx,y\n")
    found = find_files(str(tmp_path))
    parts = partitions([name for name, _ in found])
    sources = [
        open_source(path, partition=partition) for (_, path), partition in zip(found, parts, strict=True)
    ]
    assert [source.schema.names for source in sources[:2]] == [
        ["item_id", "rating", "user_id"],  # a column of the file's own counts
        ["rating", "user_id", "item_id"],
    ]
    rows = [[row for part in source.read() for row in part.table.to_pylist()] for source in sources]
    assert rows[0] == [
        {"item_id": 1, "rating": 3.0, "user_id": 7},
        {"item_id": 2, "rating": 4.0, "user_id": 7},
    ]
    assert rows[3] == [{"rating": "5", "user_id": "8", "item_id": "3"}]
    (part,) = sources[1].read(["user_id"])
    assert part.table.to_pydict() == {"user_id": ["7"]}
    assert (len(part.refused), part.n_blank) == (1, 1)
