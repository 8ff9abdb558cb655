"""A full disk names the file, what it needs and what is free. The limit of file sizes stands in for it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from serve.batch.part_writers import new_part
from serve.errors import FullDiskError, JobError
from serve.files.atomic import new_folder, write_file
from serve.files.full_disk import told_of_full_disk


@contextmanager
def room(n_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond `n_bytes`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"old")
    said = r"/a can't be written: .* It needs 9,000 bytes\. Free .* bytes"
    with pytest.raises(FullDiskError, match=said), room(1000):
        write_file(tmp_path / "a", b"x" * 9000)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder(tmp_path: Path) -> None:
    said = "/bundle can't be written"
    with pytest.raises(FullDiskError, match=said), room(1000), new_folder(tmp_path / "bundle") as folder:
        (folder / "table").write_bytes(b"x" * 9000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
def test_a_part_of_a_batch_job(format: str, tmp_path: Path) -> None:
    table = pa.table({"user_id": [f"{i**9}" for i in range(5000)]})
    said, part = r"part can't be written: .* What is finished is kept", tmp_path / "part"
    with pytest.raises(JobError, match=said), room(1000), new_part(part, format, table.schema) as write:  # type: ignore[arg-type]
        write(table)
    assert not list(tmp_path.iterdir())


def test_other_languages_have_the_number_in_the_message_alone(tmp_path: Path) -> None:
    class SafetensorError(Exception):
        pass

    message = "Error while serializing: I/O error: No space left on device (os error 28)"
    said = r"No space left on device\. It needs 5 bytes"
    with pytest.raises(FullDiskError, match=said), told_of_full_disk(tmp_path / "weights", 5):
        raise SafetensorError(message)
    with pytest.raises(PermissionError), told_of_full_disk(tmp_path / "weights"):
        raise PermissionError(13, "Permission denied")
