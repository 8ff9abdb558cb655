"""Netflix' files of ratings: a line "ITEM:" for each movie, and below it a line "USER,RATING,DATE" for each
rating.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.resources.abc import Traversable

import numpy as np
import pyarrow as pa

from serve.reading.cells import BLANKS
from serve.reading.compressed import opened
from serve.reading.lines import NOT_UTF8, blocks_of_lines, shown
from serve.reading.rows import Rows, refused_row

NAMES = ("item_id", "user_id", "rating", "timestamp")
BLOCK = re.compile(r"\s*([0-9]+):\s*")


def is_netflix(file: Traversable) -> bool:
    """Whether a file begins with a block. Raises InputError: it can't be read."""
    with opened(file) as stream:
        return BLOCK.fullmatch(stream.readline(100).decode(errors="replace")) is not None


class NetflixSource:
    """A file of blocks, such as `combined_data_1.txt` of the Netflix Prize. It begins with a line "ITEM:"."""

    is_text = True
    schema = pa.schema([pa.field(name, pa.string()) for name in NAMES])

    def __init__(self, file: Traversable) -> None:
        self.name = str(file)
        self._file = file

    def read(self, columns: Sequence[str] | None = None) -> Iterator[Rows]:
        """See `Source.read`. Every line begins a block, becomes a row of a table or a refusal, or is blank.

        Raises:
            InputError: the file can't be read; a line is longer than 64 MiB.
        """
        schema = pa.schema([self.schema.field(name) for name in columns or NAMES])
        item_id = ""
        for first, lines in blocks_of_lines(self._file):
            numbers, found, refused, n_blank = [], [], [], 0
            for number, line in enumerate(lines, first):
                if block := BLOCK.fullmatch(line):
                    item_id = block.group(1)
                elif not line.strip():
                    n_blank += 1
                else:
                    cells = [cell.strip(BLANKS + "\r") for cell in line.split(",")]
                    if len(cells) == len(NAMES) - 1 and not NOT_UTF8.search(line):
                        numbers.append(number)
                        found.append([item_id, *cells])
                        continue
                    reason = f"{len(cells)} cells where a rating has 3" if len(cells) != 3 else "not UTF-8"
                    refused.append(refused_row(self.name, "line", number, None, reason, shown(line)))
            arrays = [
                pa.array([row[NAMES.index(name)] for row in found], pa.string()) for name in schema.names
            ]
            table = pa.Table.from_arrays(arrays, schema=schema)
            yield Rows(self.name, "line", table, np.array(numbers, np.int64), refused, n_blank)
