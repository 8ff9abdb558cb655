"""The `recommend` task: users in, their best items out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec
import numpy as np
import pyarrow as pa

from serve.batch.id_column import UnknownIds, check_id_type, read_ids
from serve.bundle.parquet import arrow
from serve.reading.rows import RefusedRow, Rows, SourceColumns
from serve.runtime.batching import Each
from serve.runtime.recommender import Recommender
from serve.runtime.rules import Rules, check_left
from serve.runtime.variety import Variety


class Recommend(msgspec.Struct, frozen=True, tag="recommend"):
    """One row for each user: `user_id`, `known`, `item_ids`, `scores` and `ratings`, best first.

    With `explode`, one row for each item: `user_id`, `known`, `rank`, `item_id`, `score`, `rating`; a user
    without a list gets one row with nulls. The predicted ratings are left out where nothing predicts any.
    """

    top_k: int | None = None
    exclude_seen: bool = True
    explode: bool = False
    unknown: UnknownIds = "average"
    rules: Rules | None = None
    variety: Variety | None = None

    roles: ClassVar = ("user",)
    """See Score for this and the next four."""
    reads_all: ClassVar = False
    part_rows: ClassVar = 1 << 17
    batch_rows: ClassVar = 1 << 13
    # Nearly all time is in the graph, whose runs share one copy of the tables in threads of one process.
    worker_bytes: ClassVar[int | None] = None

    def schema(
        self, source: SourceColumns, columns: Mapping[str, str], recommender: Recommender
    ) -> pa.Schema:
        """The columns of the output.

        Raises:
            InputError: the column of user ids has another type than the bundle's.
            RequestError: `top_k` is more than the bundle ranks, no item obeys the rules, or a weight of the
                variety is out of range.
            SeenLeftOutError, UnsupportedError: as `Recommender.rank`.
        """
        check_id_type(source, columns["user"], recommender.users)
        recommender.list_length(self.top_k, "recommend")
        nobody = np.zeros(1, np.int64)
        found = recommender.rank(
            nobody, 1, exclude_seen=self.exclude_seen, rules=self.rules, variety=self.variety
        )
        check_left(found, self.rules)
        return self._columns(recommender)

    def _columns(self, recommender: Recommender) -> pa.Schema:
        user, item = (ids.type for ids in (recommender.users, recommender.items.ids))
        of_items: dict[str, pa.DataType] = {"item_id": item, "score": pa.float32()}
        if recommender.predicts_ratings:
            of_items["rating"] = pa.float32()
        added = (
            {"rank": pa.int32(), **of_items}
            if self.explode
            else {f"{name}s": pa.list_(kind) for name, kind in of_items.items()}
        )
        return pa.schema({"user_id": user, "known": pa.bool_(), **added})

    def answer(
        self, rows: Rows, columns: Mapping[str, str], recommender: Recommender, each: Each
    ) -> tuple[pa.Table, list[RefusedRow], int]:
        """The lists with the columns of `schema`, the refused rows, and how many users are unknown.

        `each` does the runs of the graph.
        """
        refused: dict[int, RefusedRow] = {}
        ids, user_index = read_ids(rows, columns["user"], recommender.users, self.unknown, refused)
        if refused:
            rows = rows.without(refused)
            kept = np.delete(np.arange(len(ids)), list(refused))
            ids, user_index = ids.take(arrow(kept)), user_index[kept]
        known = user_index > 0
        top = recommender.rank(
            user_index,
            self.top_k,
            exclude_seen=self.exclude_seen,
            rules=self.rules,
            variety=self.variety,
            each=each,
        )
        has_list = known | (self.unknown != "null")
        listed = (top.indices > 0) & has_list[:, None]  # [n, k]
        counts = listed.sum(axis=1)
        flat = [recommender.items.ids.take(top.indices[listed]), arrow(top.scores[listed])]
        if top.ratings is not None:
            flat.append(arrow(top.ratings[listed]))
        if self.explode:
            arrays = _exploded(ids, known, counts, flat)
        else:
            offsets = arrow(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
            none = arrow(~has_list)
            lists = [pa.ListArray.from_arrays(offsets, values, mask=none) for values in flat]
            arrays = [ids, arrow(known), *lists]
        n_unknown = len(known) - int(np.count_nonzero(known))
        return pa.Table.from_arrays(arrays, schema=self._columns(recommender)), rows.refused, n_unknown


def _exploded(
    ids: pa.Array, known: np.ndarray, counts: np.ndarray, flat: Sequence[pa.Array]
) -> list[pa.Array]:
    """A row for each item: `counts` int64 [n] of the values of each `flat` array belong to each user."""
    n_rows = np.maximum(counts, 1)
    row = np.repeat(np.arange(len(counts)), n_rows)
    starts = np.cumsum(n_rows) - n_rows
    rank = np.arange(len(row)) - starts[row] + 1
    empty = counts[row] == 0
    place = np.zeros(len(row), np.int64)
    place[~empty] = np.arange(len(flat[0]))
    taken = arrow(place, missing=empty)
    return [
        ids.take(arrow(row)),
        arrow(known[row]),
        arrow(rank.astype(np.int32), missing=empty),
        *(values.take(taken) for values in flat),
    ]
