"""The files of an input: hashed, alike, and unchanged while the job runs."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from serve.batch.job import InputFile
from serve.errors import InputError
from serve.files.checksum import sha256_of
from serve.reading.files import open_source
from serve.reading.rows import Source
from serve.runtime.session import available_cpus


def describe(named: Sequence[tuple[str, Path]]) -> list[InputFile]:
    """Files with their SHA-256.

    Args:
        named: Name and path of each, as `serve.reading.files.find_files` gives them.

    Raises:
        InputError: one can't be read.
    """
    with ThreadPoolExecutor(available_cpus()) as pool:
        return list(pool.map(_described, *zip(*named, strict=True)))


def open_input(path: str) -> Source:
    """The rows of one file.

    Raises:
        InputError: it is damaged, or a column's name is there twice.
    """
    source = open_source(Path(path))
    names = source.schema.names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{path} has more than one column named {', '.join(map(repr, twice))}.")
    return source


def check_unchanged(files: Sequence[InputFile]) -> None:
    """Refuse files that are not what they were when the job was planned.

    Raises:
        InputError: one has gone, or has another size or time.
    """
    for file in files:
        try:
            status = Path(file.path).stat()
        except OSError as error:
            raise InputError(f"{file.path} disappeared while it was read: {error.strerror}.") from None
        if (status.st_size, status.st_mtime_ns) != (file.bytes, file.modified_ns):
            raise InputError(f"{file.path} was changed while it was read. Run again with --overwrite.")


def check_alike(file: InputFile, source: Source, first_file: InputFile, first: Source) -> None:
    """Refuse a file whose columns are not those of the first one.

    Raises:
        InputError: they differ.
    """
    if not source.schema.equals(first.schema):
        raise InputError(
            f"{file.path} has the columns ({_columns(source.schema)}), {first_file.path} has "
            f"({_columns(first.schema)}). All files of an input must be alike."
        )


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


def _described(name: str, path: Path) -> InputFile:
    try:
        status = path.stat()  # before it is read: what is written to it from now on is noticed
        digest = sha256_of(path)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from None
    return InputFile(name, str(path.absolute()), status.st_size, status.st_mtime_ns, digest)
