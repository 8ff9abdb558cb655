"""Where the records of a CSV end, found without parsing them: a line break outside quotes ends one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from serve.errors import InputError

CHUNK_BYTES = 4 << 20
QUOTE, NEWLINE = b'"', b"\n"


class Quotes:
    """Which quotes open and close cells, one chunk after the other.

    A quote opens a cell only where the cell begins. Inside an unquoted one (5" pipe) it is text like any
    other, as for every reader of CSV.
    """

    def __init__(self, delimiter: bytes) -> None:
        self.inside = False
        """Whether the last chunk ended within quotes."""
        self._begins_after = np.zeros(256, bool)
        self._begins_after[list(delimiter + b"\r\n")] = True
        self._begins = True
        """Whether a cell begins where the next chunk does."""
        self._closed = False
        """Whether the last chunk ended with a quote that closes."""

    def find(self, chunk: bytes) -> np.ndarray:
        """Offsets of the quotes that open or close, in turn: int64 [n]."""
        was_inside = self.inside
        if QUOTE in chunk:
            found = self._that_count(np.frombuffer(chunk, np.uint8))
        else:
            found = np.empty(0, np.int64)
        self.inside = bool((len(found) + was_inside) % 2)
        if chunk:
            self._closed = not self.inside and len(found) > 0 and int(found[-1]) == len(chunk) - 1
            self._begins = bool(self._begins_after[chunk[-1]])
        return found

    def _that_count(self, characters: np.ndarray) -> np.ndarray:
        quotes = np.flatnonzero(characters == QUOTE[0])
        begins = self._begins_after[characters[quotes - 1]]
        doubled = np.diff(quotes, prepend=-2) == 1
        if quotes[0] == 0:
            begins[0], doubled[0] = self._begins, self._closed
        wrong = np.flatnonzero(~(begins | doubled)[int(self.inside) :: 2])
        if not len(wrong):  # each opens or closes, as nearly always
            return quotes
        first = 2 * int(wrong[0]) + int(self.inside)
        kept, inside, closed = quotes[:first].tolist(), False, -2
        for place, is_beginning in zip(quotes[first:].tolist(), begins[first:].tolist(), strict=True):
            if inside:
                inside, closed = False, place
            elif is_beginning or place == closed + 1:
                inside = True
            else:
                continue
            kept.append(place)
        return np.array(kept, np.int64)


def boundaries(path: Path, start: int, stop: int, every: int, delimiter: bytes) -> Iterator[tuple[int, int]]:
    """Give (end offset, number of records) of each stretch of `every` records in bytes start to stop.

    The last stretch may be shorter, and its last record may lack a line break.

    Raises:
        InputError: the last record ends within quotes.
    """
    n_records, ended, quotes = 0, start, Quotes(delimiter)
    with path.open("rb") as file:
        file.seek(start)
        offset = start
        while chunk := file.read(min(CHUNK_BYTES, stop - offset)):
            was_inside = quotes.inside
            found = quotes.find(chunk)
            if not was_inside and not len(found) and n_records + (n := chunk.count(NEWLINE)) < every:
                n_records += n
                ended = offset + chunk.rfind(NEWLINE) + 1 if n else ended
            else:
                ends = _ends(chunk, found, was_inside)
                place = 0
                while n_records + len(ends) - place >= every:
                    place += every - n_records
                    ended = offset + int(ends[place - 1]) + 1
                    yield ended, every
                    n_records = 0
                n_records += len(ends) - place
                ended = offset + int(ends[-1]) + 1 if len(ends) else ended
            offset += len(chunk)
    if quotes.inside:
        raise InputError(
            f"{path}: in the record that begins at byte {ended:,}, a quote that opens a cell is never "
            f"closed. Quotes must surround whole cells, and are doubled within them."
        )
    if ended < stop:
        n_records += 1
    if n_records:
        yield stop, n_records


def count_records(path: Path) -> int:
    """Records of a whole CSV with commas, its heading among them."""
    return sum(n for _, n in boundaries(path, 0, path.stat().st_size, 1 << 40, b","))


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
    found = Quotes(delimiter).find(block)
    closing = found[1::2]
    followers = np.frombuffer(block, np.uint8)[np.minimum(closing + 1, len(block) - 1)]
    wrong = closing[~np.isin(followers, list(delimiter + QUOTE + b"\r\n"))]
    if not len(wrong):
        return None
    return int(np.searchsorted(_ends(block, found, inside=False), wrong[0]))


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


def _ends(chunk: bytes, quotes: np.ndarray, inside: bool) -> np.ndarray:
    """Offsets of the line breaks outside quotes: int64 [n]."""
    newlines: np.ndarray = np.flatnonzero(np.frombuffer(chunk, np.uint8) == NEWLINE[0])
    opened = np.searchsorted(quotes, newlines) + inside
    return np.compress(opened % 2 == 0, newlines)
