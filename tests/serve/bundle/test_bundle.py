"""Hostile and damaged bundles. Each is refused before ONNX Runtime is even imported."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fixture_bundles import FIXTURES, edit_manifest
from onnx_bytes import model, tensor

from serve.bundle.bundle import open_bundle
from serve.bundle.manifest import MAX_MANIFEST_BYTES, encode_manifest, parse_manifest
from serve.bundle.parquet import write_columns
from serve.errors import BundleError
from serve.runtime.recommender import Recommender

Forge = Callable[[str, bytes], None]
Edit = Callable[[Callable[[dict[str, Any]], object]], None]


def refused(path: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        open_bundle(path)


def test_a_whole_bundle_opens(bundle_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    assert bundle.path == bundle_path.resolve()
    assert len(bundle.version) == 64
    for table in bundle.manifest.tables:
        array = bundle.table(table.name)
        assert list(array.shape) == table.shape
        assert array.dtype.name == table.dtype
        assert not array.flags.writeable


def test_a_manifest_is_written_as_it_was_read(bundle_path: Path) -> None:
    raw = (bundle_path / "manifest.json").read_bytes()
    assert encode_manifest(parse_manifest(raw, bundle_path)) == raw


def test_a_pointer_is_followed_once(copy: Path, tmp_path: Path) -> None:
    pointer = tmp_path / "default"
    pointer.symlink_to("bundle")
    recommender = Recommender.load(pointer, "cpu")
    pointer.unlink()
    pointer.symlink_to("nowhere")
    # Graphs and tables are loaded only now, from the folder that was checked.
    assert recommender.recommend(10).known
    assert recommender.bundle.path == copy.resolve()


# The manifest


@pytest.mark.parametrize("there", ["nothing", "a file", "an empty folder", "a loop", "a dangling link"])
def test_what_is_no_bundle_at_all(tmp_path: Path, there: str) -> None:
    path = tmp_path / "bundle"
    if there == "a file":
        path.write_text("x")
    elif there == "an empty folder":
        path.mkdir()
    elif there == "a loop":
        path.symlink_to("bundle")
    elif there == "a dangling link":
        path.symlink_to("nowhere")
    refused(path, "recsys export")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not a valid manifest"),
        (b"not JSON", "not a valid manifest"),
        (b'{"format_version": 1}', "missing required field"),
        (b'{"format_version": "1"}', "Expected `int`"),
        (b'{"format_version": 2, "new": {}}', "format version 2; this reader knows version 1"),
        (b"\xff\xfe{}", "not a valid manifest"),
        (b'{"format_version": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not a valid manifest"),
        (
            b'{"format_version": 1, "split": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
            "not a valid manifest",
        ),
        (b" " * (MAX_MANIFEST_BYTES + 1), "more than"),
    ],
    ids=["empty", "words", "bare", "mistyped", "newer", "not UTF-8", "deep list", "deep object", "huge"],
)
def test_a_manifest_that_is_none(copy: Path, raw: bytes, message: str) -> None:
    (copy / "manifest.json").write_bytes(raw)
    refused(copy, message)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "/etc/passwd", "..", ".", "", "a\\b", "a\0b", "manifest.json", "x" * 256]
)
def test_a_file_name_that_leads_elsewhere(edit_manifest: Edit, copy: Path, name: str) -> None:
    edit_manifest(lambda manifest: manifest["files"].update({name: {"bytes": 1, "sha256": "0"}}))
    refused(copy, "no bare file name")


# The files


def _flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _link(path: Path) -> None:
    path.rename(path.parent.parent / path.name)
    path.symlink_to(path.parent.parent / path.name)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("recommend.onnx", Path.unlink, "lacks recommend.onnx"),
        ("users.parquet", Path.unlink, "lacks users.parquet"),
        ("conformance.json", Path.unlink, "lacks conformance.json"),
        ("model.pkl", Path.touch, r"holds model\.pkl"),
        ("more", Path.mkdir, "more is a link, a folder"),
        ("users.parquet", lambda path: path.write_bytes(b"12"), "has 2 bytes, its manifest says"),
        ("score.onnx", _flip_a_bit, "score.onnx is damaged: its SHA-256 is"),
        ("items.parquet", _flip_a_bit, "items.parquet is damaged"),
        ("conformance.json", _flip_a_bit, "conformance.json is damaged"),
        ("score.onnx", _link, "score.onnx is a link"),
        ("score.onnx", lambda path: os.link(path, path.parent.parent / "x"), "shared by a hard link"),
        ("score.onnx", _pipe, "score.onnx is a link"),
    ],
)
def test_a_folder_that_is_not_what_the_manifest_lists(
    copy: Path, name: str, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(copy / name)
    refused(copy, message)


def test_a_file_that_may_not_be_read(copy: Path) -> None:
    (copy / "score.onnx").chmod(0)
    if os.access(copy / "score.onnx", os.R_OK):
        # Root reads everything; then the same bytes are simply whole.
        assert open_bundle(copy)
    else:
        refused(copy, "can't be read: Permission denied")


# The graphs


def test_a_graph_that_is_no_onnx(forge: Forge, copy: Path) -> None:
    for data, message in ((b"\x80\x04pickle", "is not a valid ONNX file"), (b"", "is empty")):
        forge("recommend.onnx", data)
        refused(copy, rf"recommend\.onnx {message}")


@pytest.mark.parametrize(
    "location",
    ["../secret", "/etc/passwd", "sub/tables.bin", "unlisted.bin", "", "..", "manifest.json", "\\\\host\\x"],
)
def test_external_data_outside_the_listed_files(forge: Forge, copy: Path, location: str) -> None:
    (copy.parent / "secret").write_bytes(bytes(100))
    forge("recommend.onnx", model(tensor(external={"location": location, "offset": "0", "length": "8"})))
    refused(copy, "which is not a listed file")


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 4), (0, 12), (96, 8), (100, 8), (10**18, 8)],
    ids=["short", "long", "over", "end", "far"],
)
def test_external_data_beyond_its_file(forge: Forge, copy: Path, offset: int, length: int) -> None:
    forge("tables.bin", bytes(100))
    entries = {"location": "tables.bin", "offset": str(offset), "length": str(length)}
    forge("recommend.onnx", model(tensor(external=entries)))
    refused(copy, r"tensor 't' needs 8 bytes and points to .* of tables\.bin \(100 bytes\)")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["inline", "external", "float16", "bfloat16", "double"])
def test_a_table_that_is_not_finite(forge: Forge, copy: Path, value: float, where: str) -> None:
    pair = struct.pack("<2f", 1.0, value)
    if where == "inline":
        spoilt = tensor("factors", raw=pair)
    elif where == "external":
        forge("tables.bin", bytes(4096) + pair)
        spoilt = tensor("factors", external={"location": "tables.bin", "offset": "4096", "length": "8"})
    elif where == "float16":
        spoilt = tensor("factors", data_type=10, raw=np.array([1, value], np.float16).tobytes())
    elif where == "bfloat16":
        spoilt = tensor("factors", data_type=16, raw=pair[2:4] + pair[6:8])
    else:
        spoilt = tensor("factors", data_type=11, raw=np.array([1, value]).tobytes())
    forge("recommend.onnx", model(spoilt))
    refused(copy, "tensor 'factors' has NaN or infinite values")


def test_a_nan_at_the_end_of_a_large_table(forge: Forge, copy: Path) -> None:
    """Beyond the first chunk that is looked at."""
    table = np.zeros(3 << 20, np.float32)
    table[-1] = np.nan
    forge("recommend.onnx", model(tensor("factors", shape=table.shape, raw=table.tobytes())))
    refused(copy, "NaN")


def test_a_graph_that_onnxruntime_refuses(forge: Forge, edit_manifest: Edit, copy: Path) -> None:
    """Well-formed protobuf, no valid graph: the error is still ours."""
    forge("recommend.onnx", model(*(tensor(shape=(n, 1), raw=bytes(4 * n)) for n in (31, 51))))
    edit_manifest(lambda manifest: manifest.update(tables=[]))
    with pytest.raises(BundleError, match=r"recommend\.onnx: ONNX Runtime refuses the graph"):
        Recommender.load(copy, "cpu").recommend(10)


def test_a_graph_under_another_ones_name(forge: Forge, edit_manifest: Edit, copy: Path) -> None:
    forge("recommend.onnx", (copy / "score.onnx").read_bytes())
    edit_manifest(lambda manifest: manifest.update(tables=[]))
    with pytest.raises(BundleError, match="its manifest promises"):
        Recommender.load(copy, "cpu").recommend(10)


# What the parts say of each other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["files"].update({f"{i}": {"bytes": 1, "sha256": ""} for i in range(2000)}), "1000"),
        (lambda m: m["files"].pop("recommend.onnx"), "does not list recommend.onnx"),
        (lambda m: m["files"].pop("seen.parquet"), "does not list seen.parquet"),
        (lambda m: m["graphs"].pop("recommend"), "lists no recommend graph"),
        (lambda m: m["graphs"]["recommend"]["inputs"].pop(), "the inputs of recommend are"),
        (lambda m: m["graphs"]["score"]["outputs"][0].update(dtype="int64"), "the outputs of score are"),
        (lambda m: m["graphs"]["recommend"].update(top_k=51), "top_k 51 of 50 items"),
        (lambda m: m["graphs"]["recommend"].update(top_k=None), "top_k None"),
        (lambda m: m["graphs"]["fold_in"].update(top_k=0), "top_k 0"),
        (lambda m: m["graphs"]["score"]["tolerance"].clear(), "the tolerance of score is {}"),
        (
            lambda m: m["graphs"]["recommend"]["tolerance"].update(top_scores=0.0),
            "the tolerance of recommend",
        ),
        (lambda m: m["graphs"]["recommend"].update(items=[0, 51]), r"items of recommend are \(0, 51\) of 50"),
        (lambda m: m["graphs"]["recommend"].update(items=[1, 52]), "items of recommend"),
        (lambda m: m["model"].update(n_users=0), "0 users"),
        (lambda m: m["model"].update(n_items=2**40), "are impossible"),
        (lambda m: m["model"].update(n_users=31), "the model has 31 users"),
        (lambda m: m["tables"][0].update(shape=[31, 5]), "should be float32 .*there is .*float32"),
        (lambda m: m["tables"][0].update(name="other"), "there is none"),
        (lambda m: m["tables"][0]["graphs"].append("nowhere"), "there is none"),
        (lambda m: m["graphs"]["score"].update(file="users.parquet"), "not a valid ONNX file"),
        (lambda m: m["graphs"]["score"].update(file="../x.onnx"), r"does not list \.\./x\.onnx"),
    ],
)
def test_a_manifest_that_contradicts_the_files(
    edit_manifest: Edit, copy: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_manifest(change)
    refused(copy, message)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("dot", lambda m: m["model"].update(scores="ranking"), "by ratings, which nothing predicts"),
        ("dot", lambda m: m["model"].update(lists="ranking"), "recommend has no top_ratings"),
        ("parts", lambda m: m["model"].update(lists="ratings"), "has top_ratings, though ratings order"),
        ("parts", lambda m: m["model"].update(scores="ranking"), "has top_ratings, .* scores are ranking"),
        (
            "parts",
            lambda m: m["graphs"]["recommend"]["outputs"][2].update(dtype="float64"),
            "the outputs of recommend are .*float64",
        ),
        (
            "parts",
            lambda m: m["graphs"]["fold_in"]["outputs"][2].update(shape=["B"]),
            "the outputs of fold_in are",
        ),
    ],
)
def test_ratings_beside_a_list_are_there_where_they_must_be(
    tmp_path: Path, name: str, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    bundle = Path(shutil.copytree(FIXTURES / name, tmp_path / "bundle"))
    edit_manifest(bundle, change)
    refused(bundle, message)


@pytest.mark.parametrize("name", ["users.parquet", "items.parquet"])
def test_tables_of_ids_that_are_too_short(forge: Forge, copy: Path, tmp_path: Path, name: str) -> None:
    column = name.removesuffix("s.parquet") + "_id"
    write_columns(tmp_path / name, {column: pa.array([1, 2, 3])})
    forge(name, (tmp_path / name).read_bytes())
    refused(copy, "has 3 rows, its manifest says")


def test_seen_items_out_of_range(forge: Forge, edit_manifest: Edit, copy: Path, tmp_path: Path) -> None:
    columns = {"user_index": pa.array([1], pa.int32()), "item_index": pa.array([51], pa.int32())}
    write_columns(tmp_path / "seen.parquet", {**columns, "rating": pa.array([1.0], pa.float32())})
    forge("seen.parquet", (tmp_path / "seen.parquet").read_bytes())
    edit_manifest(lambda manifest: manifest["data"].update(n_ratings=1))
    recommender = Recommender.load(copy, "cpu")
    with pytest.raises(BundleError, match="items from 51 to 51, not 1 to 50"):
        recommender.recommend(10)


def test_unknown_fields_are_ignored(edit_manifest: Edit, copy: Path) -> None:
    edit_manifest(lambda manifest: manifest.update(later={"addition": [1, 2]}))
    assert open_bundle(copy).manifest.model.n_users == 30


def test_nothing_is_given_to_onnxruntime_before_the_checks(copy: Path) -> None:
    """Opening a bundle does not even import it, nor torch, onnx, pandas."""
    program = (
        "import sys; from serve.bundle.bundle import open_bundle; open_bundle(sys.argv[1])\n"
        "print({'onnxruntime', 'onnx', 'torch', 'pandas'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(copy)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
