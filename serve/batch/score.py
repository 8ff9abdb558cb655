"""Pairs in, the same pairs with their scores out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
import pyarrow as pa

from serve.batch.id_column import check_id_column, look_up, read_ids
from serve.batch.source import Rows, kept
from serve.batch.task_result import TaskResult, UnknownIds, unknown_ids, without
from serve.bundle.ids import IdIndex
from serve.bundle.parquet import arrow
from serve.errors import InputError
from serve.runtime.batching import Each
from serve.runtime.recommender import Recommender


class Score(msgspec.Struct, frozen=True, tag="score"):
    """Add `score` (float32, ratings) and `known` (whether both ids are in the bundle) to every row."""

    unknown: UnknownIds = "average"

    reads: ClassVar[Sequence[str] | None] = None
    """The columns of the input that it needs: all."""

    def schema(self, source: str, given: pa.Schema, is_text: bool, recommender: Recommender) -> pa.Schema:
        """The columns of the output for an input's: all of it, then what is added.

        Ids that are text in the input become what the bundle has.

        Raises:
            InputError: an id column is missing or of another type, or `score` or `known` is there already.
        """
        for ids in (recommender.users, recommender.items.ids):
            check_id_column(source, given, ids, is_text)
            place = given.get_field_index(ids.name)
            given = given.set(place, _id_field(given.field(place), ids, is_text))
        added = self._added()
        for field in added:
            if field.name in given.names:
                raise InputError(f"{source} has a column {field.name}, which would be added. Rename it.")
        return pa.schema([*given, *added])

    def _added(self) -> tuple[pa.Field, pa.Field]:
        score = pa.field("score", pa.float32(), nullable=self.unknown == "null")
        return score, pa.field("known", pa.bool_(), nullable=False)

    def answer(
        self, rows: Rows, source: str, is_text: bool, recommender: Recommender, each: Each
    ) -> TaskResult:
        """See the class; the table has the columns that `schema` says. `each` does the runs of the graph."""
        table, wrong, found = rows.table, [], {}
        for ids in (recommender.users, recommender.items.ids):
            column, none = read_ids(table.column(ids.name), ids, is_text)
            index = look_up(column, ids)
            wrong += none
            if self.unknown == "error":
                wrong += unknown_ids(ids.name, column, index)
            found[ids.name] = index
            place = table.schema.get_field_index(ids.name)
            field = _id_field(table.schema.field(place), ids, is_text)
            table = table.set_column(place, field, column if is_text else table.column(place))
        stay, bad = without(rows, source, wrong)
        if bad:
            table = kept(table, stay)
        user_index, item_index = (index[stay] if bad else index for index in found.values())
        known = (user_index > 0) & (item_index > 0)
        scores = recommender.score_indices(user_index, item_index, each=each)
        missing = ~known if self.unknown == "null" else None
        for field, values in zip(self._added(), (arrow(scores, missing), arrow(known)), strict=True):
            table = table.append_column(field, values)
        return TaskResult(table, bad)


def _id_field(given: pa.Field, ids: IdIndex, is_text: bool) -> pa.Field:
    """A column of ids has no nulls, as rows without an id are bad; what says so is quicker to encode."""
    field = given.with_nullable(False)
    return field.with_type(pa.int64()) if is_text and not ids.is_string else field
