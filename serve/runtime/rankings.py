"""The results of a `Recommender`: ranked items, and scores of pairs."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from serve.bundle.titles import displayed

if TYPE_CHECKING:
    from serve.bundle.items import Catalogue
    from serve.runtime.reasons import Reasons

# Lists of a batch that a notebook shows.
N_SHOWN = 5


class ListedItem(NamedTuple):
    """One item of a list."""

    item_id: int | str
    title: str | None
    score: float
    rating: float | None
    """The predicted rating; None: nothing predicts ratings."""


def order_of(ratings: Sequence[float | None], is_varied: bool) -> str:
    """A sentence on the order of a list where its predicted ratings do not tell it; else empty.

    `ratings` are [k], in the order of the list; None: no rating is predicted.
    """
    if is_varied:
        return "Varied as asked."
    known = [rating for rating in ratings if rating is not None]
    if known == sorted(known, reverse=True):
        return ""
    return "The likeliest choices first, not the highest ratings."


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best items, best first: one list, or one row for each id of a batch ("[B, …]").

    `len` is the number of items, or of lists in a batch. Iterating gives each `ListedItem`, or each list of a
    batch as a `Ranking`. Padding past `count` is left out.
    """

    item_ids: np.ndarray
    """int64 or object (str) [k] or [B, k]; -1 or None past `count`."""
    item_indices: np.ndarray
    """int64 [k] or [B, k]; 0 past `count`."""
    scores: np.ndarray
    """float32 [k] or [B, k]; what orders the list (`manifest.model.lists`), or cosines; -1e30 beyond."""
    ratings: np.ndarray | None
    """float32 [k] or [B, k]; predicted ratings on the data's scale, -1e30 beyond; None: none."""
    graph: str
    """The graph that answered: "recommend_fast" may miss an item near the end of a list, others are exact."""
    known: Any
    """bool, or bool [B]: whether the id is in the bundle; if not, this is the average's list."""
    count: Any
    """int, or int64 [B]: number of items; less than k only where no more items were left."""
    catalogue: Catalogue = field(repr=False)
    """The items of the bundle, which know the titles."""
    reasons: Reasons | None = None
    """What each rating adds to the scores of the items, in their order; None: nobody has asked."""

    def __len__(self) -> int:
        return len(self.item_ids) if self._is_batch else int(self.count)

    def __iter__(self) -> Iterator[Any]:
        return self._lists() if self._is_batch else self._items()

    def to_arrow(self) -> Any:
        """The lists as a `pyarrow.Table` with a row for each item.

        Columns: `rank` (from 1), `item_id`, `title` if the data has titles, `score`, and `rating` if ratings
        are predicted; of a batch, first `row`, the position of the id that was asked for, from 0.
        """
        import pyarrow as pa

        listed = self.item_indices > 0
        places = np.nonzero(listed)
        index = self.item_indices[listed]
        columns: dict[str, Any] = {"row": places[0]} if self._is_batch else {}
        columns |= {"rank": places[-1] + 1, "item_id": self.catalogue.ids.take(index)}
        if self.catalogue.has_titles:
            titles = self.catalogue.titles
            columns["title"] = pa.array([titles[i - 1] for i in index.tolist()], pa.string())
        columns["score"] = self.scores[listed]
        if self.ratings is not None:
            columns["rating"] = self.ratings[listed]
        return pa.table(columns)

    def to_pandas(self) -> Any:
        """`to_arrow` as a `pandas.DataFrame`. Needs pandas, which is imported here."""
        return self.to_arrow().to_pandas()

    def _repr_html_(self) -> str:
        """The list as a table in a notebook; of a batch, the first lists."""
        if not self._is_batch:
            return self._html()
        shown = [f"<p>{row}</p>{ranking._html()}" for row, ranking in zip(range(N_SHOWN), self, strict=False)]
        more = len(self) - len(shown)
        return "".join(shown) + (f"<p>… and {more:,} more</p>" if more else "")

    def _html(self) -> str:
        names = ["", "id", *(["title"] if self.catalogue.has_titles else []), "score"]
        names += [] if self.ratings is None else ["rating"]
        names += [] if self.reasons is None else ["because of"]
        lines = []
        for rank, item in enumerate(self, 1):
            cells = [str(rank), str(item.item_id)]
            cells += [displayed(item.title or "")] if self.catalogue.has_titles else []
            cells += [f"{item.score:.3f}"] + ([] if item.rating is None else [f"{item.rating:.2f}"])
            if self.reasons is not None:
                cells.append(", ".join(map(str, self.reasons.of(rank - 1))))
            lines.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
        heading = "".join(f"<th>{name}</th>" for name in names)
        rows = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><thead><tr>{heading}</tr></thead><tbody>{rows}</tbody></table>"

    @property
    def _is_batch(self) -> bool:
        return self.item_ids.ndim == 2

    def _lists(self) -> Iterator[Ranking]:
        for row, (known, count) in enumerate(zip(self.known.tolist(), self.count.tolist(), strict=True)):
            ratings = None if self.ratings is None else self.ratings[row]
            ids, indices, scores = self.item_ids[row], self.item_indices[row], self.scores[row]
            yield Ranking(ids, indices, scores, ratings, self.graph, known, count, self.catalogue)

    def _items(self) -> Iterator[ListedItem]:
        n = len(self)
        ratings = [None] * n if self.ratings is None else self.ratings[:n].tolist()
        titles = [self.catalogue[index].title for index in self.item_indices[:n].tolist()]
        ids, scores = self.item_ids[:n].tolist(), self.scores[:n].tolist()
        yield from map(ListedItem, ids, titles, scores, ratings)


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of one pair, or of each."""

    scores: Any
    """float, or float32 [n]."""
    known: Any
    """bool, or bool [n]: whether user and item are both in the bundle."""
