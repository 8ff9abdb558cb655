"""The `score` task: pairs in, the same pairs with their scores out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec
import numpy as np
import pyarrow as pa

from serve.batch.id_column import UnknownIds, check_id_type, read_ids
from serve.bundle.ids import IdIndex
from serve.bundle.parquet import arrow
from serve.errors import InputError
from serve.reading.rows import RefusedRow, Rows, SourceColumns
from serve.runtime.batching import Each
from serve.runtime.recommender import Recommender


class Score(msgspec.Struct, frozen=True, tag="score"):
    """Add `score` (float32) and `known` (bool: both ids are in the bundle) to every row."""

    unknown: UnknownIds = "average"

    roles: ClassVar = ("user", "item")
    """Columns of ids that the input must have."""
    reads_all: ClassVar = True
    """Whether all columns of the input are read, or only those of ids."""
    # A part takes about a second, so a killed worker loses little. Reading waits for the disk between two
    # parts, so smaller parts cost time.
    part_rows: ClassVar = 1 << 22
    # Larger batches are no faster: with 2^17 pairs the allocator returns each column to the system.
    batch_rows: ClassVar = 1 << 16
    # Bytes of input for each further process: they take about as long to score as a process takes to start.
    worker_bytes: ClassVar[int | None] = 16 << 20

    def schema(
        self, source: SourceColumns, columns: Mapping[str, str], recommender: Recommender
    ) -> pa.Schema:
        """The columns of the output: those of the input, then `score` and `known`.

        Ids of text inputs get the type of the bundle's ids.

        Raises:
            InputError: a column of ids has another type than the bundle's, or the input has a column `score`
                or `known`.
        """
        given = source.schema
        for name, ids in _id_columns(columns, recommender):
            check_id_type(source, name, ids)
            place = given.get_field_index(name)
            given = given.set(place, _id_field(given.field(place), ids, source.is_text))
        for field in self._added():
            if field.name in given.names:
                raise InputError(f"{source.name} has a column {field.name}, which would be added. Rename it.")
        return pa.schema([*given, *self._added()])

    def answer(
        self, rows: Rows, columns: Mapping[str, str], recommender: Recommender, each: Each
    ) -> tuple[pa.Table, list[RefusedRow], int]:
        """The rows with the columns of `schema`, the refused rows, and how many rows have an unknown id.

        `each` does the runs of the graph.
        """
        table, is_text = rows.table, rows.unit == "line"
        refused: dict[int, RefusedRow] = {}
        indices = []
        for name, ids in _id_columns(columns, recommender):
            column, index = read_ids(rows, name, ids, self.unknown, refused)
            indices.append(index)
            place = table.schema.get_field_index(name)
            field = _id_field(table.schema.field(place), ids, is_text)
            table = table.set_column(place, field, column if is_text else table.column(place))
        rows = rows._replace(table=table).without(refused)
        user_index, item_index = (np.delete(index, list(refused)) if refused else index for index in indices)
        known = (user_index > 0) & (item_index > 0)
        scores = recommender.score_indices(user_index, item_index, each=each)
        missing = ~known if self.unknown == "null" else None
        table = rows.table
        for field, values in zip(self._added(), (arrow(scores, missing), arrow(known)), strict=True):
            table = table.append_column(field, values)
        return table, rows.refused, len(known) - int(np.count_nonzero(known))

    def _added(self) -> tuple[pa.Field, pa.Field]:
        score = pa.field("score", pa.float32(), nullable=self.unknown == "null")
        return score, pa.field("known", pa.bool_(), nullable=False)


def _id_columns(columns: Mapping[str, str], recommender: Recommender) -> list[tuple[str, IdIndex]]:
    return [(columns["user"], recommender.users), (columns["item"], recommender.items.ids)]


def _id_field(given: pa.Field, ids: IdIndex, is_text: bool) -> pa.Field:
    """Rows without an id are bad, so the column has no nulls; without them it is quicker to encode."""
    field = given.with_nullable(False)
    return field.with_type(pa.int64()) if is_text and not ids.is_string else field
