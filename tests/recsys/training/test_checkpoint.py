"""Nothing in a run folder is trusted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from recsys.errors import CheckpointError
from recsys.training.checkpoint import Run, load_run
from recsys.training.run_info import describe_file
from recsys.training.train import Machine, resume

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
    (run / "run.json").write_text(json.dumps(record))


def part(record: dict[str, Any]) -> dict[str, Any]:
    return record["parts"][0]


def accept(run: Path, name: str) -> None:
    """Make run.json agree with a changed file: what the checksum can't catch must be caught later."""
    file = describe_file(run / name)
    edit(run, lambda record: record["files"].update({name: {"bytes": file.bytes, "sha256": file.sha256}}))


def read_everything(path: Path) -> None:
    run = load_run(path)
    run.model()
    run.part.optimizer_state()
    run.interactions()
    run.split()


def test_a_whole_run_reads(run: Path) -> None:
    read_everything(run)
    assert not load_run(run).model().training


def test_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is not a folder: it is not a run. `recsys train` makes one"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"has no run\.json"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid"),
        (b"{", "not valid"),
        (b"[]", "not valid"),
        (b"\xff\xfe", "not valid"),
        (b"[" * 100_000, "not valid"),
        (b'{"format_version": 1}', "format version 1; this release reads version 2. Train again"),
        (b'{"format_version": 2}', "not valid"),
    ],
)
def test_a_broken_run_json(run: Path, content: bytes, message: str) -> None:
    (run / "run.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_run(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["files"].update({"../secret": r["files"]["users.parquet"]}), "outside of the folder"),
        (lambda r: r["files"].update({"/etc/passwd": r["files"]["users.parquet"]}), "outside of the folder"),
        (lambda r: r["files"].pop("items.parquet"), r"lists no items\.parquet"),
        (lambda r: part(r).update(weights="../weights"), r"lists no \.\./weights"),
        (lambda r: part(r).update(history=[]), "no whole epoch"),
        (lambda r: part(r).update(kind="tower"), "no model is called 'tower'"),
        (lambda r: part(r)["config"].update(n_factors=-1), "factors is -1"),
        (lambda r: part(r)["config"].update(n_factors=9), "user_factors is"),
        (lambda r: part(r)["config"].update(y_range="auto"), "auto"),
        (lambda r: r["data"].update(n_users=7), "user_biases is|user_factors is"),
        (lambda r: part(r).update(optimizer=None), "lists no optimizer"),
        (lambda r: r["parts"].append(part(r)), "two parts that predict ratings"),
        (lambda r: r.update(parts=[]), "no whole epoch"),
        (lambda r: r["data"].update(n_ratings=7), "1200"),
        (lambda r: part(r)["training"].update(epochs="five"), "not valid"),
        (lambda r: r["split"].update(kind="by-moon"), "not valid"),
    ],
)
def test_a_run_json_that_lies(run: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    edit(run, change)
    with pytest.raises(CheckpointError, match=message):
        read_everything(run)


@pytest.mark.parametrize("name", FILES)
def test_missing_changed_and_truncated_files(run: Path, name: str) -> None:
    whole = (run / name).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (bytes(flipped), whole[:-1], b"", whole + b"\0"):
        (run / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name} is damaged.*--overwrite"):
            load_run(run)
    (run / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} can't be read"):
        load_run(run)


@pytest.mark.parametrize("name", FILES)
def test_garbage_with_a_right_checksum(run: Path, name: str) -> None:
    whole = (run / name).read_bytes()
    for content in (b"", b"garbage", whole[: len(whole) // 2]):
        (run / name).write_bytes(content)
        accept(run, name)
        with pytest.raises(CheckpointError, match=f"{name} can't be read"):
            read_everything(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("item_biases"), "but the model has item_biases"),
        (lambda t: t.update(more=torch.zeros(1)), "holds item_biases, item_factors, more"),
        (lambda t: t.update(item_biases=t["item_biases"].double()), "item_biases is torch.float64"),
        (lambda t: t.update(item_biases=t["item_biases"][1:].clone()), "item_biases is"),
        (lambda t: t["item_factors"][3].fill_(torch.nan), "item_factors holds values that are not finite"),
        (lambda t: t["user_factors"][0].fill_(torch.inf), "user_factors holds values that are not finite"),
    ],
)
def test_wrong_weights(run: Path, change: Callable[[dict[str, torch.Tensor]], None], message: str) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(run / WEIGHTS).items()}
    change(tensors)
    save_file(tensors, run / WEIGHTS)
    accept(run, WEIGHTS)
    with pytest.raises(CheckpointError, match=message):
        load_run(run).model()


def test_a_state_of_another_optimizer(run: Path) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(run / OPTIMIZER).items()}
    tensors["user_biases.momentum"] = tensors.pop("user_biases.exp_avg")
    save_file(tensors, run / OPTIMIZER)
    accept(run, OPTIMIZER)
    edit(run, lambda record: part(record)["training"].update(epochs=4))
    with pytest.raises(CheckpointError, match=r"user_biases\.exp_avg, user_biases\.momentum"):
        resume(run, machine=Machine("cpu", "off"))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("user_index", pa.scalar(0, pa.int32()), "user_index leaves 1 to 41"),
        ("item_index", pa.scalar(32, pa.int32()), "item_index leaves 1 to 31"),
        ("item_index", pa.scalar(-1, pa.int32()), "item_index leaves 1 to 31"),
        ("rating", pa.scalar(float("nan"), pa.float32()), "not finite"),
        ("rating", pa.scalar(None, pa.float32()), "'rating' is not float without gaps"),
        ("rating", pa.scalar("5"), "'rating' is not float"),
        ("held_out", pa.scalar(False), "one side of the split"),
        ("held_out", pa.scalar(True), "one side of the split"),
        ("held_out", None, "'held_out' is not bool"),
    ],
)
def test_wrong_ratings(run: Path, column: str, value: pa.Scalar | None, message: str) -> None:
    path = run / "interactions.parquet"
    table = pq.read_table(path)
    place = table.column_names.index(column)
    table = (
        table.remove_column(place)
        if value is None
        else table.set_column(place, column, pa.repeat(value, len(table)))
    )
    pq.write_table(table, path)
    accept(run, path.name)
    with pytest.raises(CheckpointError, match=message):
        read_everything(run)


def test_ids_without_their_column(run: Path) -> None:
    pq.write_table(pa.table({"user": [1, 2]}), run / "users.parquet")
    accept(run, "users.parquet")
    with pytest.raises(CheckpointError, match=r"users\.parquet has no column user_id"):
        load_run(run).interactions()


def test_a_run_can_move(run: Path, tmp_path: Path) -> None:
    shutil.move(run, tmp_path / "elsewhere")
    read_everything(tmp_path / "elsewhere")
