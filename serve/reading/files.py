"""The files that a path, a folder or a glob means, and how each is opened, by the ending of its name."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from serve.errors import InputError
from serve.reading.parquet import ParquetSource
from serve.reading.text import ATOMIC, CSV, TSV, TextSource

PARQUET = (".parquet", ".pq")
TEXT = {".csv": CSV, ".tsv": TSV, ".inter": ATOMIC}
KINDS = (*PARQUET, *TEXT)
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip")
HIDDEN = ("_", ".")


def open_source(path: Path, delimiter: str | None = None) -> TextSource | ParquetSource:
    """The rows of one file, whose ending must be one of `KINDS`.

    Args:
        path: The file.
        delimiter: What stands between the cells of text, where it is not what the ending says.

    Raises:
        InputError: it is damaged, or of another kind.
    """
    ending = path.suffix.lower()
    if ending in PARQUET:
        return ParquetSource(path)
    _check_kind(path)
    layout = TEXT[ending]
    return TextSource(path, replace(layout, delimiter=delimiter) if delimiter else layout)


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
        _check_kind(found)
    return _each_once(sorted((found.relative_to(root).as_posix(), found) for found in paths))


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
            if _is_compressed(found):
                _check_kind(found)
            if found.suffix.lower() in KINDS and _is_there(found):
                files.append(found)
    return files


def _check_kind(path: Path) -> None:
    if _is_compressed(path):
        raise InputError(f"{path} is compressed. Unpack it, or move it elsewhere.")
    if path.suffix.lower() not in KINDS:
        raise InputError(f"{path}: its name must end in {', '.join(KINDS)}, to say what it is.")


def _is_compressed(path: Path) -> bool:
    return path.suffix.lower() in COMPRESSED and Path(path.stem).suffix.lower() in KINDS
