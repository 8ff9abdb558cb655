"""The ids and titles that stand for the rows of the tables outside: what `recommend_by_id.onnx` holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from export.model.arrays import Int64

IdArray = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class IdTables:
    """What stands for each row. Ids are int64, or str in an object array."""

    user_ids: IdArray
    """[n_users]: the first stands for index 1"""
    item_ids: IdArray
    """[n_items]"""
    titles: Sequence[str] | None
    """[n_items], "" where an item has none; None where the data has no titles"""

    @property
    def no_item(self) -> int | str:
        """What stands where no item is left, and pads `exclude_item_ids`: -1, or ""."""
        return "" if is_string(self.item_ids) else -1

    def users(self, user_index: Int64) -> IdArray:
        """Ids at indices [B]; at 0 an id that is not in the table."""
        unknown: int | str = "unknown" if is_string(self.user_ids) else -1
        while unknown in set(self.user_ids.tolist()):
            unknown = f"{unknown}?" if isinstance(unknown, str) else unknown - 1
        return _with_row_0(self.user_ids, unknown)[user_index]

    def items(self, item_index: Int64) -> IdArray:
        """Ids at indices, of any shape; `no_item` at 0."""
        return _with_row_0(self.item_ids, self.no_item)[item_index]

    def titles_of(self, item_index: Int64) -> IdArray | None:
        """Titles at indices, of any shape; "" at 0. None where the data has no titles."""
        return None if self.titles is None else np.array(["", *self.titles], object)[item_index]


def is_string(ids: IdArray) -> bool:
    """Whether ids are text."""
    return ids.dtype.kind not in "iu"


def _with_row_0(ids: IdArray, row_0: int | str) -> IdArray:
    return np.concatenate([np.array([row_0], object if is_string(ids) else np.int64), ids])
