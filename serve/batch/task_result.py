"""What a task makes of a batch of rows."""

from __future__ import annotations

from typing import Literal, NamedTuple

import pyarrow as pa

from serve.reading.rows import RefusedRow

UnknownIds = Literal["average", "null", "error"]
"""What an id that is not in the bundle gets: the average's answer, none, or it is a bad row."""


class TaskResult(NamedTuple):
    """Rows of the output, and the rows of the input that have none."""

    table: pa.Table
    refused: list[RefusedRow]
