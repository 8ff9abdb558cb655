"""All contents of a run folder are checked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from recsys.errors import CheckpointError
from recsys.training.checkpoint import Run, load_run
from recsys.training.run_info import describe_file, signed

WEIGHTS = "weights-1-0003.safetensors"
OPTIMIZER = "optimizer-1-0003.safetensors"
FILES = (WEIGHTS, OPTIMIZER, "users.parquet", "items.parquet", "interactions.parquet")


@pytest.fixture(scope="module")
def original(train_checkerboard: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_checkerboard("dot-bias", tmp_path_factory.mktemp("runs") / "run").path


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


def edit(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads((run / "run.json").read_text())
    change(record)
    (run / "run.json").write_bytes(signed(json.dumps(record).encode()))


def part(record: dict[str, Any]) -> dict[str, Any]:
    return record["parts"][0]


def accept(run: Path, name: str) -> None:
    """Write a changed file's checksum into run.json."""
    file = describe_file(run / name)
    edit(run, lambda record: record["files"].update({name: {"bytes": file.bytes, "sha256": file.sha256}}))


def read_everything(path: Path) -> None:
    run = load_run(path)
    run.part.optimizer_state(run.model())
    run.interactions()
    run.split()


def test_a_run_reads_and_can_move(run: Path, tmp_path: Path) -> None:
    shutil.move(run, tmp_path / "elsewhere")
    read_everything(tmp_path / "elsewhere")
    assert not load_run(tmp_path / "elsewhere").model().training
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(CheckpointError, match=r"it is not a run.*`recsys train` makes runs"):
            load_run(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"format_version": 3}'])
def test_a_broken_run_json(run: Path, content: bytes) -> None:
    (run / "run.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="not valid"):
        load_run(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(format_version=1), "format version 1; this release reads version 3. Train again"),
        (lambda r: r["files"].update({"../secret": r["files"]["users.parquet"]}), "outside of the folder"),
        (lambda r: r["files"].update({"/etc/passwd": r["files"]["users.parquet"]}), "outside of the folder"),
        (lambda r: r["files"].pop("items.parquet"), r"lists no items\.parquet"),
        (lambda r: part(r).update(weights="../weights"), r"lists no \.\./weights"),
        (lambda r: part(r).update(history=[]), "no whole epoch"),
        (lambda r: part(r).update(kind="tower"), "no model is called 'tower'"),
        (lambda r: part(r)["config"].update(n_factors=-1), "factors is -1"),
        (lambda r: part(r)["config"].update(n_factors=9), "does not fit the model.*user_factors"),
        (lambda r: part(r)["config"].update(y_range="auto"), "auto"),
        (lambda r: r["data"].update(n_users=7), "does not fit the model.*user_factors"),
        (lambda r: part(r).update(optimizer=None), "lists no optimizer"),
        (lambda r: r["parts"].append(part(r)), "two parts that predict ratings"),
        (lambda r: r["data"].update(n_ratings=7), "1200"),
        (lambda r: part(r)["training"].update(epochs="five"), "not valid"),
        (lambda r: r["split"].update(kind="by-moon"), "not valid"),
    ],
)
def test_a_wrong_run_json(run: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    edit(run, change)
    with pytest.raises(CheckpointError, match=message):
        read_everything(run)


def test_a_flipped_byte_anywhere_in_run_json(run: Path, rng: np.random.Generator) -> None:
    whole = (run / "run.json").read_bytes()
    for place in rng.choice(len(whole), 200, replace=False):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        (run / "run.json").write_bytes(flipped)
        with pytest.raises(CheckpointError, match=r"not valid|format version|changed after"):
            load_run(run)


@pytest.mark.parametrize("name", FILES)
def test_missing_and_changed_files(run: Path, name: str) -> None:
    whole = (run / name).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (bytes(flipped), whole[:-1], b"", whole + b"\0"):
        (run / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name} is damaged.*--overwrite"):
            load_run(run)
    for content in (b"", b"garbage", whole[: len(whole) // 2]):
        (run / name).write_bytes(content)
        accept(run, name)
        with pytest.raises(CheckpointError, match=f"{name} can't be read"):
            read_everything(run)
    (run / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} can't be read"):
        load_run(run)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (WEIGHTS, lambda t: t.pop("item_biases"), "does not fit the model.*: item_biases"),
        (WEIGHTS, lambda t: t.update(more=torch.zeros(1)), "does not fit the model.*: more"),
        (WEIGHTS, lambda t: t.update(item_biases=t["item_biases"].double()), "does not fit.*: item_biases"),
        (
            WEIGHTS,
            lambda t: t.update(item_biases=t["item_biases"][1:].clone()),
            "does not fit.*: item_biases",
        ),
        (WEIGHTS, lambda t: t["item_factors"][3].fill_(torch.nan), "item_factors that are not finite"),
        (WEIGHTS, lambda t: t["user_factors"][0].fill_(torch.inf), "user_factors that are not finite"),
        (
            OPTIMIZER,
            lambda t: t.update(momentum=t.pop("user_biases.exp_avg")),
            r": momentum, user_biases\.exp_avg",
        ),
    ],
)
def test_wrong_tensors(
    run: Path, file: str, change: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(run / file).items()}
    change(tensors)
    save_file(tensors, run / file)
    accept(run, file)
    with pytest.raises(CheckpointError, match=message):
        read_everything(run)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("user_index", pa.scalar(0, pa.int32()), "user_index outside of 1 to 41"),
        ("item_index", pa.scalar(32, pa.int32()), "item_index outside of 1 to 31"),
        ("rating", pa.scalar(float("nan"), pa.float32()), "not finite"),
        ("rating", pa.scalar(None, pa.float32()), "no column rating of type float without nulls"),
        ("rating", pa.scalar("5"), "no column rating of type float"),
        ("held_out", pa.scalar(False), "one part of the split"),
        ("held_out", pa.scalar(True), "one part of the split"),
        ("held_out", None, "no column held_out"),
        ("timestamp", pa.scalar(None, pa.int64()), "no column timestamp of type int64 without nulls"),
        ("user_id", None, "no column user_id"),
        ("user_id", pa.scalar(7), "each is there once"),
        ("user_id", pa.scalar(0.5), "no column user_id of integers or text"),
    ],
)
def test_wrong_columns(run: Path, column: str, value: pa.Scalar | None, message: str) -> None:
    path = run / ("users.parquet" if column == "user_id" else "interactions.parquet")
    table = pq.read_table(path)
    place = table.column_names.index(column)
    values = None if value is None else pa.repeat(value, len(table))
    table = table.remove_column(place) if values is None else table.set_column(place, column, values)
    pq.write_table(table, path)
    accept(run, path.name)
    with pytest.raises(CheckpointError, match=message):
        read_everything(run)


def test_text_that_is_not_utf8(run: Path) -> None:
    path = run / "items.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("title")
    titles = pa.array([b"\xa4"] * len(table), pa.binary()).view(pa.string())
    pq.write_table(table.set_column(place, "title", titles), path)
    accept(run, path.name)
    with pytest.raises(CheckpointError, match=r"items.parquet can't be read: .*UTF"):
        read_everything(run)
