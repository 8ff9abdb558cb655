"""The files that a path, a folder or a glob stands for, and how each is opened, by the ending of its name."""

from __future__ import annotations

import glob
import os
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from serve.errors import InputError
from serve.reading.parquet import ParquetSource
from serve.reading.text import ATOMIC, CSV, TSV, TextSource

PARQUET = (".parquet", ".pq")
TEXT = {".csv": CSV, ".tsv": TSV, ".inter": ATOMIC}
ENDINGS = (*PARQUET, *TEXT)
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip")
HIDDEN = ("_", ".")


def open_source(path: Path, delimiter: str | None = None) -> TextSource | ParquetSource:
    """Open one file. `delimiter` separates the cells of text; None: as the ending of the file's name says.

    Raises InputError: it is damaged, or its name ends in none of `ENDINGS`.
    """
    _check_ending(path)
    if (ending := path.suffix.lower()) in PARQUET:
        return ParquetSource(path)
    return TextSource(path, replace(TEXT[ending], delimiter=delimiter) if delimiter else TEXT[ending])


def find_files(asked: str) -> list[tuple[str, Path]]:
    """The files that a path or a glob stands for, in order: names relative to `asked`, and paths.

    A folder stands for all files in it and below whose names end in one of `ENDINGS`. Names that begin with
    "_" or "." are left out (Spark and Hive write such files) unless the glob spells them. A file that is
    found twice, by a link or by two matches, is read once.

    Raises:
        InputError: no file is there, a file has another ending or is compressed, or a link is broken.
    """
    if not asked.strip():
        raise InputError("the input's path is empty. Give a file, a folder or a glob.")
    path = Path(asked)
    if path.exists() and not path.is_dir() and not path.is_file():
        raise InputError(f"{asked} is neither a file nor a folder.")
    root = path if path.is_dir() else path.parent
    matches = [path] if path.exists() else []
    if not matches and glob.has_magic(asked):
        while glob.has_magic(str(root)):
            root = root.parent
        matches = _matches(root, path)
    paths = [file for match in matches for file in _files_of(match)]
    if not paths:
        raise InputError(
            f"{asked}: no such file, and no {', '.join(ENDINGS)} there. Give a file, a folder or a glob."
        )
    for file in paths:
        _check_ending(file)
    first: dict[Path, Path] = {}
    for file in sorted(paths, key=lambda file: (file.resolve() != file.absolute(), file)):
        first.setdefault(file.resolve(), file)
    return sorted((file.relative_to(root).as_posix(), file) for file in first.values())


def _matches(root: Path, pattern: Path) -> list[Path]:
    """The paths below `root` that match; as in a shell, "**" follows no links."""
    spelled = pattern.relative_to(root)
    try:
        found = sorted(root.glob(str(spelled)))
    except ValueError as error:
        raise InputError(f"{pattern}: {error}.") from None
    hidden = tuple(mark for mark in HIDDEN if not any(part.startswith(mark) for part in spelled.parts))
    return [
        match for match in found if not any(part.startswith(hidden) for part in match.relative_to(root).parts)
    ]


def _files_of(path: Path) -> list[Path]:
    """The file itself, or the files in a folder and below, also behind links; each folder is visited once."""
    if not path.is_dir():
        return [path] if _is_file(path) else []

    def refuse(error: OSError) -> NoReturn:
        raise InputError(f"{error.filename} can't be read: {error.strerror}.") from None

    files, visited = [], set()
    for where, folders, names in os.walk(path, onerror=refuse, followlinks=True):
        root = Path(where)
        real = root.resolve()
        if real in visited or (root.is_symlink() and root.parent.resolve().is_relative_to(real)):
            folders.clear()  # a link to a folder above
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        for file in (root / name for name in names if not name.startswith(HIDDEN)):
            if _is_compressed(file) or (file.suffix.lower() in ENDINGS and _is_file(file)):
                files.append(file)
    return files


def _is_file(path: Path) -> bool:
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path} is a broken link. Remove it, or restore its target.")
    return path.is_file()


def _check_ending(path: Path) -> None:
    if _is_compressed(path):
        raise InputError(f"{path} is compressed. Unpack it, or move it elsewhere.")
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{path}: its name must end in {', '.join(ENDINGS)}.")


def _is_compressed(path: Path) -> bool:
    return path.suffix.lower() in COMPRESSED and Path(path.stem).suffix.lower() in ENDINGS
