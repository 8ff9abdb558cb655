"""Users in, their best items out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
import numpy as np
import pyarrow as pa

from serve.batch.id_column import check_id_column, read_ids
from serve.batch.task_result import TaskResult, UnknownIds
from serve.bundle.parquet import arrow
from serve.reading.rows import RefusedRow, Rows, Source
from serve.runtime.batching import Each
from serve.runtime.recommender import Recommender


class Recommend(msgspec.Struct, frozen=True, tag="recommend"):
    """One row for each user: `user_id`, `known`, `item_ids` and `scores`, best first.

    Exploded, one row for each item: `user_id`, `known`, `rank`, `item_id`, `score`; a user without a list
    gets one row with nulls.
    """

    top_k: int | None = None
    exclude_seen: bool = True
    explode: bool = False
    unknown: UnknownIds = "average"

    reads: ClassVar[Sequence[str] | None] = ("user_id",)
    """The columns of the input that it needs."""

    def schema(self, source: Source, recommender: Recommender) -> pa.Schema:
        """The columns of the output; of an input, only `user_id` is read.

        Raises:
            InputError: there is none, or it is of another type than the bundle's.
            RequestError: the bundle does not rank so many items.
        """
        check_id_column(source, recommender.users)
        recommender.list_length(self.top_k, "recommend")
        return self._columns(recommender)

    def _columns(self, recommender: Recommender) -> pa.Schema:
        user, item = (
            pa.string() if ids.is_string else pa.int64() for ids in (recommender.users, recommender.items.ids)
        )
        columns: list[tuple[str, pa.DataType]] = [("user_id", user), ("known", pa.bool_())]
        if self.explode:
            columns += [("rank", pa.int32()), ("item_id", item), ("score", pa.float32())]
        else:
            columns += [("item_ids", pa.list_(item)), ("scores", pa.list_(pa.float32()))]
        return pa.schema(columns)

    def answer(self, rows: Rows, recommender: Recommender, each: Each) -> TaskResult:
        """See the class; the table has the columns that `schema` says. `each` does the runs of the graph."""
        refused: dict[int, RefusedRow] = {}
        ids, user_index = read_ids(rows, recommender.users, self.unknown, refused)
        if refused:
            rows = rows.without(refused)
            stay = np.delete(np.arange(len(ids)), list(refused))
            ids, user_index = ids.take(arrow(stay)), user_index[stay]
        known = user_index > 0
        top, scores = recommender.rank(user_index, self.top_k, exclude_seen=self.exclude_seen, each=each)
        has_list = known | (self.unknown != "null")
        listed = (top > 0) & has_list[:, None]  # [n, k]
        counts = listed.sum(axis=1)
        item_ids = recommender.items.ids.take(top[listed])
        values = arrow(scores[listed])
        schema = self._columns(recommender)
        if self.explode:
            return TaskResult(_exploded(schema, ids, known, counts, item_ids, values), rows.refused)
        offsets = arrow(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        none = arrow(~has_list)
        lists = [pa.ListArray.from_arrays(offsets, flat, mask=none) for flat in (item_ids, values)]
        return TaskResult(pa.Table.from_arrays([ids, arrow(known), *lists], schema=schema), rows.refused)


def _exploded(
    schema: pa.Schema,
    ids: pa.Array,
    known: np.ndarray,
    counts: np.ndarray,
    item_ids: pa.Array,
    values: pa.Array,
) -> pa.Table:
    """A row for each item: `counts` int64 [n] of the flat `item_ids` and `values` belong to each user."""
    n_rows = np.maximum(counts, 1)
    row = np.repeat(np.arange(len(counts)), n_rows)
    starts = np.cumsum(n_rows) - n_rows
    rank = np.arange(len(row)) - starts[row] + 1
    empty = counts[row] == 0
    place = np.zeros(len(row), np.int64)
    place[~empty] = np.arange(len(item_ids))
    taken = arrow(place, missing=empty)
    columns = [
        ids.take(arrow(row)),
        arrow(known[row]),
        arrow(rank.astype(np.int32), missing=empty),
        item_ids.take(taken),
        values.take(taken),
    ]
    return pa.Table.from_arrays(columns, schema=schema)
