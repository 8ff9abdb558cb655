"""A file's lines in blocks of bounded size, and text with bytes that are not UTF-8."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources.abc import Traversable

from serve.errors import InputError
from serve.reading.compressed import opened

BLOCK_BYTES = 4 << 20
MAX_RECORD_BYTES = 64 << 20
BOM = b"\xef\xbb\xbf"
NOT_UTF8 = re.compile("[\ud800-\udfff]")
"""A byte that was decoded by surrogateescape, or half of a pair."""


def blocks_of_lines(file: Traversable) -> Iterator[tuple[int, list[str]]]:
    """The number of the first line, from 1, and the lines of each block, decoded by surrogateescape.

    Raises InputError: the file can't be read, or a line is longer than 64 MiB.
    """
    number, rest, is_last = 1, b"", False
    with opened(file) as stream:
        rest = stream.read(len(BOM)).removeprefix(BOM)
        while not is_last:
            data = stream.read(BLOCK_BYTES)
            is_last = not data
            data = rest + data
            cut = len(data) if is_last else data.rfind(b"\n") + 1
            lines, rest = data[:cut].decode(errors="surrogateescape").split("\n"), data[cut:]
            if not lines[-1]:
                lines.pop()
            if lines:
                yield number, lines
            number += len(lines)
            if len(rest) > MAX_RECORD_BYTES:
                raise InputError(
                    f"{file}, line {number}: a line of more than {MAX_RECORD_BYTES >> 20} MiB. Is it text?"
                )


def shown(text: str) -> str:
    """Text for a message, its other bytes as \\xff."""
    return NOT_UTF8.sub(lambda found: _escaped(ord(found.group())), text)


def _escaped(code: int) -> str:
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code < 0xDD00 else f"\\u{code:04x}"


_KINDS = {
    b"\x1f\x8b": "gzip: name it .gz behind its ending",
    b"BZh": "bzip2: name it .bz2 behind its ending",
    b"\x28\xb5\x2f\xfd": "Zstandard: name it .zst behind its ending",
    b"PAR1": "Parquet: name it .parquet",
    b"\x04\x22\x4d\x18": "LZ4: name it .lz4 behind its ending",
    b"\xfd7zXZ": "xz: unpack it, xz -d",
    b"PK\x03\x04": "a zip, or a spreadsheet such as .xlsx: unpack it, or save it as CSV",
    b"\xd0\xcf\x11\xe0": "a spreadsheet such as .xls: save it as CSV",
    b"ARROW1": "Arrow or Feather: write it as Parquet",
    b"Obj\x01": "Avro: write it as Parquet",
    b"SQLite format 3": "a database of SQLite: write its table as CSV",
    b"%PDF-": "PDF",
    **dict.fromkeys(
        (b"<!DOCTYPE", b"<!doctype", b"<html", b"<?xml"), "HTML or XML, perhaps an error page: look at it"
    ),
    b"version https://git-lfs": "Git LFS' place holder of a file: git lfs pull",
}
"""First bytes of a file that is no text -> what it is, and what to do."""


def check_utf8(data: bytes, name: str) -> None:
    """Check that a file that begins with `data` is text, and not UTF-16 or UTF-32.

    Raises InputError: it is not.
    """
    for first, kind in _KINDS.items():
        if data.startswith(first):
            raise InputError(f"{name} is no text but {kind}.")
    wide = data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")) or b"\0\0\0" in data[:4]
    if wide or data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:2]:
        kind = "UTF-32" if wide else "UTF-16"
        raise InputError(f"{name} is {kind}, not UTF-8. Convert it: iconv -f {kind} -t UTF-8 OLD > NEW.")
    if b"\0\0" in data.partition(b"\n")[0]:
        raise InputError(f"{name} is no text: its first line has zero bytes. If it is an archive, unpack it.")
