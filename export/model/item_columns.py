"""What rules can ask of an item: categories and numbers, as tables of a graph."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from export.errors import GraphError
from export.model.arrays import Float32, Float64, Int64
from serve.bundle.item_rules import (
    LARGEST_NUMBER,
    MAX_CATEGORIES,
    MAX_NUMBERS,
    N_RATINGS,
    UNKNOWN_NUMBER,
    YEAR,
    ItemRules,
    categories_of,
)

log = logging.getLogger(__name__)


def categories_and_membership(
    n_items: int, genres: Sequence[str | None] | None
) -> tuple[tuple[str, ...], npt.NDArray[np.uint8]]:
    """The names of the categories, sorted, and which item is of which: uint8 [n_items + 1, C].

    `genres` as for `ItemColumns.of`. C is at least 1: a category without items, where there are none.

    Raises:
        GraphError: there are too many categories.
    """
    of_items = [categories_of(text) for text in genres or ()]
    names = sorted({name for one in of_items for name in one})
    if len(names) > MAX_CATEGORIES:
        raise GraphError(
            f"the items have {len(names):,} categories, and a graph may have {MAX_CATEGORIES:,}: export "
            f"without --filtered and --variety"
        )
    place = {name: column for column, name in enumerate(names)}
    membership = np.zeros((n_items + 1, max(1, len(names))), np.uint8)
    for row, one in enumerate(of_items, 1):
        membership[row, [place[name] for name in one]] = 1
    return tuple(names), membership


@dataclass(frozen=True, eq=False)
class ItemColumns:
    """Categories and numbers of the items; row 0 is "unknown"."""

    categories: tuple[str, ...]
    """Names of the columns of `membership`; none where the data has no categories"""
    membership: npt.NDArray[np.uint8]
    """uint8 [n_items + 1, C], 1 where an item is of a category; C is at least 1"""
    numbers: dict[str, Float32]
    """name -> float32 [n_items + 1]; `UNKNOWN_NUMBER` where an item has none"""

    @classmethod
    def of(
        cls,
        n_item_ratings: Int64,
        genres: Sequence[str | None] | None,
        years: Sequence[Any] | None,
        others: Mapping[str, Float64] | None = None,
    ) -> ItemColumns:
        """From what the data knows of the items.

        Args:
            n_item_ratings: int64 [n_items + 1], training ratings of each item.
            genres: [n_items], "|" between two; None: the data has none.
            years: [n_items], None where an item has none; None: the data has none.
            others: further numbers by name, float64 [n_items], NaN where an item has none. One called
                "n_ratings" or "year" is left out, and with a warning those beyond `MAX_NUMBERS` numbers.

        Raises:
            GraphError: there are too many categories.
        """
        names, membership = categories_and_membership(len(n_item_ratings) - 1, genres)
        numbers = {N_RATINGS: n_item_ratings.astype(np.float32)}
        if years is not None:
            known = [UNKNOWN_NUMBER if year is None else float(year) for year in years]
            numbers[YEAR] = np.array([UNKNOWN_NUMBER, *known], np.float32)
        for name, values in (others or {}).items():
            if name not in (N_RATINGS, YEAR):
                bounded = np.clip(values, -LARGEST_NUMBER, LARGEST_NUMBER)
                bounded = np.where(np.isnan(values), UNKNOWN_NUMBER, bounded)
                numbers[name] = np.append(UNKNOWN_NUMBER, bounded).astype(np.float32)
        if more := list(numbers)[MAX_NUMBERS:]:
            named = ", ".join(map(repr, more[:5])) + (", …" if len(more) > 5 else "")
            log.warning(
                f"graphs with rules have the first {MAX_NUMBERS} numbers of the items, without "
                f"{len(more):,}: {named}"
            )
        return cls(names, membership, dict(islice(numbers.items(), MAX_NUMBERS)))

    @property
    def described(self) -> ItemRules:
        """As the manifest has them."""
        return ItemRules(categories=list(self.categories), numbers=list(self.numbers))

    def banned(self, rules: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
        """The slow, obvious reading of the graph's inputs of rules: bool [R, n_items + 1], row by row."""
        rows = []
        for allow, wanted, unwanted, lowest, highest in zip(*rules.values(), strict=True):
            ban = np.any(self.membership[:, unwanted > 0], axis=1)
            if (wanted > 0).any():
                ban |= ~self.membership[:, wanted > 0].any(axis=1)
            if (allow > 0).any():
                ban |= ~np.isin(np.arange(len(self.membership)), allow)
            for column, low, high in zip(self.numbers.values(), lowest, highest, strict=True):
                ban |= (column < low) | (column > high)
            rows.append(ban)
        return np.stack(rows)
