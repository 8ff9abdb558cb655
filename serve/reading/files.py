"""The files that a path, a folder or a glob stands for, and how each is opened, by the ending of its name."""

from __future__ import annotations

import glob
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from serve.errors import InputError
from serve.reading.columns import is_heading
from serve.reading.compressed import inner_name, opened
from serve.reading.json_lines import JsonLinesSource
from serve.reading.netflix import NetflixSource, is_netflix
from serve.reading.parquet import ParquetSource
from serve.reading.partitions import Partition, PartitionedSource
from serve.reading.rows import Source
from serve.reading.text import ATOMIC, CSV, MAX_HEADING_BYTES, TSV, Layout, TextSource
from serve.terminal import counted

PARQUET = (".parquet", ".pq")
TEXT = {".csv": CSV, ".tsv": TSV, ".inter": ATOMIC}
JSON_LINES = (".jsonl", ".json", ".ndjson")
ENDINGS = (*PARQUET, *TEXT, *JSON_LINES)
PACKED = (".xz", ".zip", ".7z", ".rar")
"""Endings of compressed files that are not read."""
HIDDEN = ("_", ".")
SHOWN = 5
"""Files that a warning names."""

log = logging.getLogger(__name__)


def open_source(
    path: Path, delimiter: str | None = None, heading: str | None = None, partition: Partition | None = None
) -> Source:
    """Open one file by the ending of its name, that of its compression left out.

    Args:
        path: The file.
        delimiter: Separates the cells of text, "tab" is a tab; None: as the ending says.
        heading: The names of the columns of text without a heading, separated by commas; None: the first
            line names them.
        partition: Columns that the names of its folders give, see `partitions`.

    Raises InputError: it is damaged; or its name ends in none of `ENDINGS`, and no delimiter is given.
    """
    source = ParquetSource(path) if is_parquet(path) else _open_text(path, delimiter, heading)
    return PartitionedSource(source, partition) if partition else source


def _open_text(
    path: Path, delimiter: str | None, heading: str | None
) -> TextSource | JsonLinesSource | NetflixSource:
    ending = Path(inner_name(path.name)).suffix.lower()
    if heading and ending in JSON_LINES:
        raise InputError(f"{path} names its columns: leave out --heading.")
    if ending in JSON_LINES:
        return JsonLinesSource(path)
    _check_packed(path)
    if delimiter is None and ending not in TEXT:
        if is_netflix(path):
            return NetflixSource(path)
        raise InputError(
            f"{path}: its name must end in {', '.join(ENDINGS)}. If it is text, name what separates its "
            f"cells: --delimiter"
        )
    layout = TEXT.get(ending, CSV)
    if delimiter is not None:
        delimiter = "\t" if delimiter in ("\\t", "tab") else delimiter
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise InputError(
                f"delimiter={delimiter!r}: one character (tab for a tab), no quote and no end of line."
            )
        # A table between tabs has no quoting, whatever its name: titles begin with quotes.
        layout = TSV if delimiter == TSV.delimiter else replace(layout, delimiter=delimiter)
    if heading:
        names = tuple(name.strip() for name in heading.split(","))
        _check_no_heading(path, layout, names)
        layout = replace(layout, header=names, typed=False)
    return TextSource(path, layout)


def _check_no_heading(path: Path, layout: Layout, names: tuple[str, ...]) -> None:
    """Raise InputError where the first line of a text file names its columns."""
    with opened(path) as stream:
        first = stream.readline(MAX_HEADING_BYTES).decode(errors="replace").removeprefix("\ufeff")
    cells = tuple(cell.strip(' \t\r\n"') for cell in first.split(layout.delimiter))
    if cells == names or is_heading(cells):
        raise InputError(
            f"{path}: its first line {first.strip()[:80]!r} names the columns: leave out --heading, or "
            f"choose among them with --user-column and the like."
        )


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, by the ending of its name; all others are text."""
    return path.suffix.lower() in PARQUET


def find_files(asked: str, *, quiet: bool = False) -> list[tuple[str, Path]]:
    """The files that a path or a glob stands for, in order: names relative to `asked`, and paths.

    A folder stands for all files in it and below whose names end in one of `ENDINGS`, also compressed, or
    begin with "part-". In a glob, a folder that is there is taken by its name, whatever brackets that has.
    Names that begin with "_" or "." are left out (Spark and Hive write such files) unless the glob spells
    them, and so are empty text files beside others, which Spark writes for empty partitions.
    A file that is found twice, by a link or by two matches, is read once. Unless `quiet`, a warning names the
    files of a folder that are no tables, by their names.

    Raises:
        InputError: no file is there, one is compressed in a way that is not read, or a link is broken.
    """
    if not asked.strip():
        raise InputError("the input's path is empty. Give a file, a folder or a glob.")
    path = Path(asked)
    if path.exists() and not path.is_dir() and not path.is_file():
        raise InputError(f"{asked} is neither a file nor a folder.")
    root = path if path.is_dir() else path.parent
    matches = [path] if path.exists() else []
    if not matches and glob.has_magic(asked):
        while not root.is_dir():
            root = root.parent
        matches = _matches(root, path)
    unread: list[Path] = []
    paths = [file for match in matches for file in _files_of(match, unread)]
    if paths and unread and not quiet:
        shown = ", ".join(sorted(file.name for file in unread)[:SHOWN]) + (
            ", …" if len(unread) > SHOWN else ""
        )
        log.warning(
            f"{asked}: not read: {counted(len(unread), 'file')} whose names end otherwise than in "
            f"{', '.join(ENDINGS)}: {shown}"
        )
    if not paths:
        raise InputError(
            f"{asked}: no such file, and no {', '.join(ENDINGS)} there. Give a file, a folder or a glob."
        )
    for file in paths:
        _check_packed(file)
    first: dict[Path, Path] = {}
    for file in sorted(paths, key=lambda file: (file.resolve() != file.absolute(), file)):
        first.setdefault(file.resolve(), file)
    found = sorted((file.relative_to(root).as_posix(), file) for file in first.values())
    return [(name, file) for name, file in found if is_parquet(file) or file.stat().st_size] or found


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


def _files_of(path: Path, unread: list[Path]) -> list[Path]:
    """The file itself, or the files in a folder and below, also behind links; each folder is visited once.

    Files of a folder that are no tables, by their names, are added to `unread`.
    """
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
            if _is_table(file) and _is_file(file):
                files.append(file)
            elif file.is_file():
                unread.append(file)
    return files


def _is_file(path: Path) -> bool:
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path} is a broken link. Remove it, or restore its target.")
    return path.is_file()


def _check_packed(path: Path) -> None:
    inner = Path(inner_name(path.name)).suffix.lower()
    if path.suffix.lower() in PACKED or (inner in PARQUET and not is_parquet(path)):
        raise InputError(f"{path} is compressed in a way that is not read. Unpack it, or move it elsewhere.")


def _is_table(path: Path) -> bool:
    """Whether a file of a folder is read, or refused as unreadable: a table or a part of one, by its name."""
    if path.name.startswith("part-"):  # of Spark or Hadoop: never left out for its ending
        return True
    name = inner_name(path.name if path.suffix.lower() not in PACKED else path.stem)
    return Path(name).suffix.lower() in ENDINGS
