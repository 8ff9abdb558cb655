"""Sizes are compared with what the manifest and the format allow before anything is decoded.

Each bundle is small on disk, signed again, and would take gigabytes or minutes if it were believed.
"""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixture_bundles import edit_manifest
from onnx_bytes import model, tensor, varint

from serve.bundle.conformance import read_conformance
from serve.errors import BundleError
from serve.runtime.checked_graph import check_all
from serve.runtime.recommender import Recommender

MOST_BYTES = 200 << 20
N_USERS, N_ITEMS = 30, 50


def write(path: Path, columns: dict[str, Any], repeat: int = 1, **options: Any) -> None:
    table = pa.table(columns)
    with pq.ParquetWriter(path, table.schema, store_schema=False, **options) as writer:
        for _ in range(repeat):
            writer.write_table(table, row_group_size=1 << 24)


def one_long_title(bundle: Path) -> None:
    ids = pa.array(range(1, 1 + N_ITEMS))
    write(bundle / "items.parquet", {"item_id": ids, "title": pa.array(["x" * 60_000] * N_ITEMS)})


def a_title_beyond_the_limit(bundle: Path) -> None:
    titles = pa.array(["x" * 70_000, *"y" * (N_ITEMS - 1)])
    write(bundle / "items.parquet", {"item_id": pa.array(range(1, 1 + N_ITEMS)), "title": titles})


def prefixes(bundle: Path) -> None:
    ids = pa.array([f"{'u' * 50_000}{place}" for place in range(N_USERS)])
    encoding = {"user_id": "DELTA_BYTE_ARRAY"}
    write(bundle / "users.parquet", {"user_id": ids}, use_dictionary=False, column_encoding=encoding)


def a_codec_that_shrinks_more(bundle: Path) -> None:
    write(bundle / "users.parquet", {"user_id": pa.array(range(N_USERS))}, compression="zstd")


def many_equal_ids(bundle: Path) -> None:
    n = 1 << 20
    write(bundle / "users.parquet", {"user_id": pa.array(np.full(n, 7))}, repeat=50)
    edit_manifest(bundle, lambda m: (m["model"].update(n_users=50 * n), m.update(tables=[])))


def a_table_without_columns(bundle: Path) -> None:
    tables = tensor("u", (200_000_001, 0), raw=b""), tensor("i", (N_ITEMS + 1, 1), raw=bytes(4 * N_ITEMS + 4))
    (bundle / "score.onnx").write_bytes(model(*tables))
    edit_manifest(bundle, lambda m: (m["model"].update(n_users=200_000_000), m.update(tables=[])))


def a_large_row_group(bundle: Path) -> None:
    n = (1 << 20) + 1
    equal = pa.array(np.ones(n, np.int32))
    rating = pa.array(np.ones(n, np.float32))
    write(bundle / "seen.parquet", {"user_index": equal, "item_index": equal, "rating": rating})
    edit_manifest(bundle, lambda m: m["data"].update(n_ratings=n))


def equal_pairs(bundle: Path) -> None:
    n = 1 << 20
    equal = pa.array(np.ones(n, np.int32))
    rating = pa.array(np.ones(n, np.float32))
    write(bundle / "seen.parquet", {"user_index": equal, "item_index": equal, "rating": rating}, repeat=9)
    edit_manifest(bundle, lambda m: m["data"].update(n_ratings=9 * n))


def a_deep_schema(bundle: Path) -> None:
    n = 500_000
    field = b"\x35\x00\x18\x01a\x15\x02\x00"  # repetition 0, the name "a", one child
    count = varint(2 * 0)
    footer = b"\x15\x02\x19\xfc" + varint(n) + field * n + b"\x16" + count + b"\x19\x0c\x00"
    (bundle / "users.parquet").write_bytes(b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1")


def edit_conformance(bundle: Path, change: Callable[[Any], object]) -> None:
    document = json.loads((bundle / "conformance.json").read_bytes())
    change(document["graphs"])
    (bundle / "conformance.json").write_text(json.dumps(document))


def many_rows(bundle: Path) -> None:
    def repeat(graphs: Any) -> None:
        for side in graphs["recommend"][0].values():
            for values in side.values():
                width = len(values["data"]) // values["shape"][0]
                values["shape"][0] = 2000
                values["data"] = values["data"][:width] * 2000

    edit_conformance(bundle, repeat)


def many_values(bundle: Path) -> None:
    def enlarge(graphs: Any) -> None:
        values = graphs["recommend"][0]["inputs"]["exclude_item_indices"]
        values.update(shape=[1, 5_000_000], data=[0] * 5_000_000)

    edit_conformance(bundle, enlarge)


def many_cases(bundle: Path) -> None:
    edit_conformance(bundle, lambda graphs: graphs.update(recommend=graphs["recommend"] * 20))


def deep_cases(bundle: Path) -> None:
    path = bundle / "conformance.json"
    path.write_text(path.read_text().replace('"data":[', '"data":[' + "[" * 100_000, 1))


def many_graphs_in_one_file(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m["graphs"].update({f"g{i}": m["graphs"]["score"] for i in range(90)}))


def many_graphs(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m["graphs"].update({f"g{i}": m["graphs"]["score"] for i in range(9000)}))


def many_tables(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m.update(tables=m["tables"] * 2000))


def a_table_of_many_graphs(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m["tables"][0].update(graphs=["score"] * 200_000))


def overlapping_tables(bundle: Path) -> None:
    (bundle / "tables.bin").write_bytes(bytes(1 << 20))
    places = [{"location": "tables.bin", "offset": str(4 * i), "length": "1000000"} for i in range(200)]
    tables = [tensor(f"t{i}", (250_000,), external=place) for i, place in enumerate(places)]
    (bundle / "score.onnx").write_bytes(model(*tables))


def sizes_that_overflow(bundle: Path) -> None:
    (bundle / "score.onnx").write_bytes(model(tensor("t", (1 << 62, 1 << 62, 4), raw=b"")))


def a_wide_scale(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m["data"].update(ratings_range=[-1e300, 1e300]))


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (one_long_title, "title has 3000000 bytes"),
        (a_title_beyond_the_limit, "one value of 70000"),
        (prefixes, "encoding 7"),
        (a_codec_that_shrinks_more, "compressed by ZSTD"),
        (many_equal_ids, "score has no table of 52428801 rows"),
        (a_table_without_columns, "score has no table of 200000001 rows"),
        (a_large_row_group, "groups of 1048577"),
        (equal_pairs, "not sorted by user and item"),
        (a_deep_schema, "its schema has 500000 fields"),
        (many_rows, "have 2000 rows, not 1 to 64"),
        (many_values, "no case has the shape"),
        (many_cases, "has 40 conformance cases"),
        (deep_cases, "holds no conformance cases|can't be read"),
        (many_graphs_in_one_file, r"two graphs are in score\.onnx"),
        (many_graphs, "graphs, more than 100"),
        (many_tables, "tables in .* graphs, more than 1000"),
        (a_table_of_many_graphs, "graphs, more than 1000"),
        (overlapping_tables, "overlaps another"),
        (sizes_that_overflow, "its shape asks for"),
        (a_wide_scale, "the ratings_range is"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_size_that_would_cost_gigabytes_or_minutes(
    copy: Path, forge: Callable[[Path], None], message: str
) -> None:
    forge(copy)
    edit_manifest(copy)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=message):
            check_all(Recommender.load(copy, "cpu"))
        assert tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes() - before < MOST_BYTES
    finally:
        tracemalloc.stop()


def test_cases_are_decoded_one_by_one(copy: Path) -> None:
    """Of arrays that are not asked for, no value is."""
    edit_conformance(
        copy, lambda graphs: graphs["score"][0]["inputs"]["user_index"].update(data=["no", None])
    )
    assert read_conformance(copy / "conformance.json").graphs["score"]
    edit_manifest(copy)
    recommender = Recommender.load(copy, "cpu")
    recommender.check("recommend")
    with pytest.raises(BundleError, match="a case of score can't be read"):
        recommender.check("score")
