"""Where the records of a CSV end, found without parsing them: a line break outside quotes ends one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from serve.errors import InputError

CHUNK_BYTES = 4 << 20
QUOTE, NEWLINE = b'"', b"\n"


def boundaries(path: Path, start: int, stop: int, every: int) -> Iterator[tuple[int, int]]:
    """Give (end offset, number of records) of each stretch of `every` records in bytes start to stop.

    The last stretch may be shorter, and its last record may lack a line break. A quote opens or closes
    quoted text wherever it stands; that is not so for a stray one inside an unquoted cell (5" pipe), so
    whoever parses the stretches counts again.

    Raises:
        InputError: the last record ends within quotes.
    """
    n_records, inside, ended = 0, False, start
    with path.open("rb") as file:
        file.seek(start)
        offset = start
        while chunk := file.read(min(CHUNK_BYTES, stop - offset)):
            if not inside and QUOTE not in chunk and n_records + (n := chunk.count(NEWLINE)) < every:
                n_records += n
                ended = offset + chunk.rfind(NEWLINE) + 1 if n else ended
            else:
                ends, inside = _ends(chunk, inside)
                place = 0
                while n_records + len(ends) - place >= every:
                    place += every - n_records
                    ended = offset + int(ends[place - 1]) + 1
                    yield ended, every
                    n_records = 0
                n_records += len(ends) - place
                ended = offset + int(ends[-1]) + 1 if len(ends) else ended
            offset += len(chunk)
    if inside:
        raise InputError(
            f"{path}: in the record that begins at byte {ended:,}, a quote is never closed, or stands in a "
            f"cell that has none around it. Quotes must surround whole cells."
        )
    if ended < stop:
        n_records += 1
    if n_records:
        yield stop, n_records


def count_records(path: Path) -> int:
    """Records of a whole CSV, its heading among them."""
    return sum(n for _, n in boundaries(path, 0, path.stat().st_size, 1 << 40))


def count_lines(path: Path) -> int:
    """Lines of a whole file."""
    with path.open("rb") as file:
        return sum(chunk.count(NEWLINE) for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))


def goes_on_after_a_quote(block: bytes, delimiter: bytes) -> int | None:
    """The record, from 0, in which a cell goes on after the quote that closes it ("2"3); None: there is none.

    Args:
        block: Whole records.
        delimiter: What stands between cells.
    """
    if QUOTE not in block:
        return None
    characters = np.frombuffer(block, np.uint8)
    quotes = np.flatnonzero(characters == QUOTE[0])
    opening, closing = quotes[0::2], quotes[1::2]
    around = np.zeros(256, bool)
    around[list(delimiter + QUOTE + b"\r\n")] = True
    begins = (opening == 0) | around[characters[opening - 1]]
    ends = (closing == len(block) - 1) | around[characters[np.minimum(closing + 1, len(block) - 1)]]
    wrong = closing[begins[: len(closing)] & ~ends]
    if not len(wrong):
        return None
    return int(np.searchsorted(_ends(block, inside=False)[0], wrong[0]))


def trimmed(path: Path) -> int:
    """Where the file ends, empty lines at its end left out but for one line break."""
    size = path.stat().st_size
    with path.open("rb") as file:
        while size:
            start = max(0, size - CHUNK_BYTES)
            file.seek(start)
            kept = len(file.read(size - start).rstrip(b"\r\n"))
            if kept:
                file.seek(start + kept)
                ending = file.read(2)
                return start + kept + (2 if ending == b"\r\n" else min(1, len(ending)))
            size = start
    return 0


def _ends(chunk: bytes, inside: bool) -> tuple[np.ndarray, bool]:
    """Offsets of the line breaks outside quotes: int64 [n], and whether the chunk ends inside quotes."""
    characters = np.frombuffer(chunk, np.uint8)
    newlines = np.flatnonzero(characters == NEWLINE[0])
    quotes = np.flatnonzero(characters == QUOTE[0])
    opened = np.searchsorted(quotes, newlines) + inside
    return newlines[opened % 2 == 0], bool((len(quotes) + inside) % 2)
