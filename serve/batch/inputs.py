"""The files of an input: found, ordered, hashed, and alike."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pyarrow as pa

from serve.batch.csv_source import CsvSource
from serve.batch.job import InputFile
from serve.batch.parquet_source import ParquetSource
from serve.batch.source import Source
from serve.device import available_cpus
from serve.errors import InputError

KINDS: dict[str, type[CsvSource] | type[ParquetSource]] = {
    ".parquet": ParquetSource,
    ".pq": ParquetSource,
    ".csv": CsvSource,
    ".tsv": CsvSource,
}

COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip")
HIDDEN = ("_", ".")


def find_files(asked: str) -> list[tuple[str, Path]]:
    """The files that a path or a glob means, in order: names, relative to what was asked for, and paths.

    A folder, also one that a glob matches, stands for all Parquet, CSV and TSV files in it and below. Names
    that begin with "_" or "." are left out there, as every reader of such folders does.

    Raises:
        InputError: nothing is there, or a file is of another kind.
    """
    if not asked.strip():
        raise InputError("the input's path is empty. Give a file, a folder or a glob.")
    path = Path(asked)
    if path.is_dir():
        root, paths = path, _within(path)
    elif path.is_file():
        root, paths = path.parent, [path]
    elif path.exists():
        raise InputError(f"{asked} is neither a file nor a folder.")
    else:
        matches = glob.glob(asked, recursive=True)  # noqa: PTH207  an absolute pattern will do, too
        files = [file for match in map(Path, matches) for file in _matched(match)]
        paths = list(dict.fromkeys(files))  # two of "**" match some more than once
        root = path.parent
        while glob.has_magic(str(root)):
            root = root.parent
    if not paths:
        kinds = ", ".join(KINDS)
        raise InputError(
            f"{asked}: no such file, and no {kinds} files there. Give a file, a folder or a glob."
        )
    for found in paths:
        if found.suffix.lower() not in KINDS:
            raise InputError(f"{found}: its name must end in {', '.join(KINDS)}, to say what it is.")
    return sorted((found.relative_to(root).as_posix(), found) for found in paths)


def describe(named: Sequence[tuple[str, Path]]) -> list[InputFile]:
    """Files with their SHA-256.

    Raises:
        InputError: one can't be read.
    """
    with ThreadPoolExecutor(available_cpus()) as pool:
        return list(pool.map(_described, *zip(*named, strict=True)))


def open_source(path: str) -> Source:
    """The rows of one file.

    Raises:
        InputError: it is damaged, or a column's name is there twice.
    """
    source = KINDS[Path(path).suffix.lower()](Path(path))
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
    return ", ".join(
        f"{field.name} {field.type}" + ("" if field.nullable else " not null") for field in schema
    )


def _matched(match: Path) -> list[Path]:
    """The files that a match of a glob stands for: itself, or those of a folder."""
    if match.is_dir():
        return [] if match.name.startswith(HIDDEN) else _within(match)
    return [match] if match.is_file() else []


def _within(folder: Path) -> list[Path]:
    """The files in a folder and below it, also behind links.

    Raises:
        InputError: a folder can't be read, or a file is compressed.
    """

    def refuse(error: OSError) -> NoReturn:
        raise InputError(f"{error.filename} can't be read: {error.strerror}.") from None

    files = []
    for where, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        root = Path(where)
        if root.is_symlink() and root.resolve() in map(Path.resolve, root.parents):
            folders.clear()  # it leads back to where we come from
            continue
        folders[:] = [name for name in folders if not name.startswith(HIDDEN)]
        for found in (root / name for name in names if not name.startswith(HIDDEN)):
            if found.suffix.lower() in COMPRESSED and Path(found.stem).suffix.lower() in KINDS:
                raise InputError(f"{found} is compressed. Unpack it, or move it elsewhere.")
            if found.suffix.lower() in KINDS and found.is_file():
                files.append(found)
    return files


def _described(name: str, path: Path) -> InputFile:
    try:
        status = path.stat()  # before it is read: what is written to it from now on is noticed
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from None
    return InputFile(name, str(path.absolute()), status.st_size, status.st_mtime_ns, digest)
