"""JSON lines -> rows of strings: one object a line, as Amazon 2023, Goodreads and Yelp publish ratings.

Values become the text that a CSV file would have: numbers as they are written, true and false, null as an
empty cell, lists and objects as they are written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np
import pyarrow as pa

from serve.errors import InputError
from serve.reading.cells import BLANKS
from serve.reading.compressed import opened
from serve.reading.lines import BOM, NOT_UTF8, blocks_of_lines, check_utf8, shown
from serve.reading.rows import RefusedRow, Rows, refused_row

HEADING_BYTES = 1 << 20
"""The keys of the objects in these first bytes are the columns."""


class JsonLinesSource:
    """A file of JSON lines. A key that an object lacks is an empty cell.

    Raises InputError: it can't be read, or does not begin with objects, one a line.
    """

    is_text = True

    def __init__(self, file: Traversable) -> None:
        self.name = str(file)
        self._file = file
        with opened(file) as stream:
            data = stream.read(HEADING_BYTES)
        check_utf8(data, self.name)
        lines = data.removeprefix(BOM).decode(errors="surrogateescape").split("\n")
        names: dict[str, None] = {}
        for line in lines[:-1] if len(data) == HEADING_BYTES else lines:
            if line.strip():
                names |= dict.fromkeys(_object(line) or ())
        if not names or data.lstrip()[:1] == b"[":
            raise InputError(f"{self.name} {_what_it_is(data)}")
        self.schema = pa.schema([pa.field(name, pa.string()) for name in names if not NOT_UTF8.search(name)])

    def read(self, columns: Sequence[str] | None = None) -> Iterator[Rows]:
        """See `Source.read`. Every line becomes a row of a table or a refusal, or is counted as blank.

        Refused are lines that hold no object, an object with a key twice, text in `columns` that is not UTF-8
        and, where all columns are read, a key that the first lines do not have.

        Raises:
            InputError: the file can't be read; a line is longer than 64 MiB.
        """
        names = self.schema.names if columns is None else list(columns)
        known = set(self.schema.names) if columns is None else None
        for first, lines in blocks_of_lines(self._file):
            numbers: list[int] = []
            found: list[list[str]] = []
            refused: list[RefusedRow] = []
            for number, line in enumerate(lines, first):
                if not line.strip():
                    continue
                cells = _object(line)
                wrong: tuple[str | None, str, str]
                if cells is None:
                    wrong = None, "not a JSON object with each key once", shown(line)
                elif known is not None and (new := cells.keys() - known):
                    wrong = None, f"a key that the first lines do not have: {min(new)!r}", shown(line)
                else:
                    row = [_text(cells.get(name), name, line) for name in names]
                    bad = next((place for place, text in enumerate(row) if NOT_UTF8.search(text)), None)
                    if bad is None:
                        numbers.append(number)
                        found.append(row)
                        continue
                    wrong = names[bad], "not UTF-8", shown(row[bad])
                column, reason, value = wrong
                refused.append(refused_row(self.name, "line", number, column, reason, value))
            arrays = [pa.array([row[place] for row in found], pa.string()) for place in range(len(names))]
            schema = pa.schema([pa.field(name, pa.string()) for name in names])
            table = pa.Table.from_arrays(arrays, schema=schema)
            n_blank = len(lines) - len(found) - len(refused)
            yield Rows(self.name, "line", table, np.array(numbers, np.int64), refused, n_blank)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    cells = dict(pairs)
    if len(cells) < len(pairs):
        raise ValueError("a key is there twice")
    return cells


# Numbers stay as they are written: 0.10 and integers beyond 64 bits, too.
_SPACE = re.compile(r"[ \t\r]*")
_decoder = json.JSONDecoder(object_pairs_hook=_once, parse_float=str, parse_int=str, parse_constant=str)


def _object(line: str) -> dict[str, Any] | None:
    """The object of one line; None: it holds none."""
    try:
        value = _decoder.decode(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _text(value: Any, name: str, line: str) -> str:
    """The text of the value that the object on a line has under a name."""
    if isinstance(value, str):
        return value.strip(BLANKS)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _as_written(line, name)


def _as_written(line: str, name: str) -> str:
    """The value that the object on a line has under a name, as it is written."""
    place = line.index("{") + 1
    while True:
        key, place = _decoder.raw_decode(line, _SPACE.match(line, place).end())  # type: ignore[union-attr]
        start = _SPACE.match(line, line.index(":", place) + 1).end()  # type: ignore[union-attr]
        _, stop = _decoder.raw_decode(line, start)
        if key == name:
            return line[start:stop]
        place = line.index(",", stop) + 1


def _what_it_is(data: bytes) -> str:
    """Why a file is not JSON lines, and what to do."""
    start = data.lstrip()[:2]
    if not start:
        return "is empty; each line should be a JSON object."
    if start[:1] == b"[" or b"\n" in data.lstrip()[:3]:
        return "is one JSON document, not one object a line. Convert it: jq -c '.[]' OLD > NEW.jsonl"
    if start in (b"{'", b"{u"):
        return (
            "holds Python's dicts, not JSON. Convert it: python -c \"import ast, json, sys; "
            '[print(json.dumps(ast.literal_eval(line))) for line in sys.stdin]" < OLD > NEW.jsonl'
        )
    return "does not begin with JSON objects, one a line."
