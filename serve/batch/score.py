"""Pairs in, the same pairs with their scores out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
import numpy as np
import pyarrow as pa

from serve.batch.id_column import check_id_column, read_ids
from serve.batch.task_result import TaskResult, UnknownIds
from serve.bundle.ids import IdIndex
from serve.bundle.parquet import arrow
from serve.errors import InputError
from serve.reading.rows import RefusedRow, Rows, Source
from serve.runtime.batching import Each
from serve.runtime.recommender import Recommender


class Score(msgspec.Struct, frozen=True, tag="score"):
    """Add `score` (float32, ratings) and `known` (whether both ids are in the bundle) to every row."""

    unknown: UnknownIds = "average"

    reads: ClassVar[Sequence[str] | None] = None
    """The columns of the input that it needs: all."""

    def schema(self, source: Source, recommender: Recommender) -> pa.Schema:
        """The columns of the output for an input's: all of it, then what is added.

        Ids that are text in the input become what the bundle has.

        Raises:
            InputError: an id column is missing or of another type, or `score` or `known` is there already.
        """
        given = source.schema
        for ids in (recommender.users, recommender.items.ids):
            check_id_column(source, ids)
            place = given.get_field_index(ids.name)
            given = given.set(place, _id_field(given.field(place), ids, source.is_text))
        added = self._added()
        for field in added:
            if field.name in given.names:
                raise InputError(f"{source.name} has a column {field.name}, which would be added. Rename it.")
        return pa.schema([*given, *added])

    def _added(self) -> tuple[pa.Field, pa.Field]:
        score = pa.field("score", pa.float32(), nullable=self.unknown == "null")
        return score, pa.field("known", pa.bool_(), nullable=False)

    def answer(self, rows: Rows, recommender: Recommender, each: Each) -> TaskResult:
        """See the class; the table has the columns that `schema` says. `each` does the runs of the graph."""
        table, is_text = rows.table, rows.unit == "line"
        refused: dict[int, RefusedRow] = {}
        indices = []
        for ids in (recommender.users, recommender.items.ids):
            column, index = read_ids(rows, ids, self.unknown, refused)
            indices.append(index)
            place = table.schema.get_field_index(ids.name)
            field = _id_field(table.schema.field(place), ids, is_text)
            table = table.set_column(place, field, column if is_text else table.column(place))
        if refused:
            indices = [np.delete(index, list(refused)) for index in indices]
        rows = rows._replace(table=table).without(refused)
        table = rows.table
        user_index, item_index = indices
        known = (user_index > 0) & (item_index > 0)
        scores = recommender.score_indices(user_index, item_index, each=each)
        missing = ~known if self.unknown == "null" else None
        for field, values in zip(self._added(), (arrow(scores, missing), arrow(known)), strict=True):
            table = table.append_column(field, values)
        return TaskResult(table, rows.refused)


def _id_field(given: pa.Field, ids: IdIndex, is_text: bool) -> pa.Field:
    """A column of ids has no nulls, as rows without an id are bad; what says so is quicker to encode."""
    field = given.with_nullable(False)
    return field.with_type(pa.int64()) if is_text and not ids.is_string else field
