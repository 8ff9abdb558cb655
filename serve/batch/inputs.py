"""The files of an input: found, ordered, hashed, and alike."""

from __future__ import annotations

import glob
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
from serve.errors import InputError
from serve.files.checksum import sha256_of
from serve.runtime.session import available_cpus

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
    that begin with "_" or "." are left out, as every reader of such folders does, unless a glob spells them.

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
        root = path
        while glob.has_magic(str(root)):
            root = root.parent
        paths = [file for match in _matches(root, path) for file in _matched(match)] if root != path else []
    if not paths:
        kinds = ", ".join(KINDS)
        raise InputError(
            f"{asked}: no such file, and no {kinds} files there. Give a file, a folder or a glob."
        )
    for found in paths:
        if found.suffix.lower() not in KINDS:
            raise InputError(f"{found}: its name must end in {', '.join(KINDS)}, to say what it is.")
    return _each_once(sorted((found.relative_to(root).as_posix(), found) for found in paths))


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


def _each_once(named: Sequence[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """What is there twice, by a link or by two matches of a pattern, is read once: where it lies itself."""
    first: dict[Path, tuple[str, Path]] = {}
    for name, path in sorted(named, key=lambda entry: entry[1].resolve() != entry[1].absolute()):
        first.setdefault(path.resolve(), (name, path))
    return sorted(first.values())


def _matches(root: Path, pattern: Path) -> list[Path]:
    """What a pattern matches below a folder; "**" goes into no links, which may lead back, as in a shell."""
    spelled = pattern.relative_to(root)
    try:
        found = sorted(root.glob(str(spelled)))
    except ValueError as error:
        raise InputError(f"{pattern}: {error}.") from None
    allowed = {part[0] for part in spelled.parts}
    return [
        match
        for match in found
        if not any(part[0] in HIDDEN and part[0] not in allowed for part in match.relative_to(root).parts)
    ]


def _matched(match: Path) -> list[Path]:
    """The files that a match stands for: itself, or those of a folder."""
    if match.is_dir():
        return _within(match)
    return [match] if _is_there(match) else []


def _is_there(path: Path) -> bool:
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path} is a link to nothing. Remove it, or put back what it led to.")
    return path.is_file()


def _within(folder: Path) -> list[Path]:
    """The files in a folder and below it, also behind links; each folder is looked into once.

    Raises:
        InputError: a folder can't be read, a link leads nowhere, or a file is compressed.
    """

    def refuse(error: OSError) -> NoReturn:
        raise InputError(f"{error.filename} can't be read: {error.strerror}.") from None

    files, visited = [], set()
    for where, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        root = Path(where)
        real = root.resolve()
        if real in visited or (root.is_symlink() and root.parent.resolve().is_relative_to(real)):
            folders.clear()  # it leads back to where it lies itself
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        for found in (root / name for name in names if not name.startswith(HIDDEN)):
            if found.suffix.lower() in COMPRESSED and Path(found.stem).suffix.lower() in KINDS:
                raise InputError(f"{found} is compressed. Unpack it, or move it elsewhere.")
            if found.suffix.lower() in KINDS and _is_there(found):
                files.append(found)
    return files


def _described(name: str, path: Path) -> InputFile:
    try:
        status = path.stat()  # before it is read: what is written to it from now on is noticed
        digest = sha256_of(path)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from None
    return InputFile(name, str(path.absolute()), status.st_size, status.st_mtime_ns, digest)
