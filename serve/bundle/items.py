"""`items.parquet`: ids, titles, genres and years of the items, and search by title or id."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from serve.bundle.ids import IdIndex, items_table
from serve.errors import RequestError

# Characters of a mistyped title that are compared: the time grows with them.
MAX_COMPARED = 200
# Best matches by rapidfuzz's WRatio that are sorted again by its plain ratio.
N_COMPARED = 64
# The least similarity of a title that is suggested, on rapidfuzz's scale from 0 to 100.
MIN_SIMILARITY = 62


class Item(NamedTuple):
    """One item; None for what the data does not know."""

    item_index: int
    item_id: int | str
    title: str | None
    genres: tuple[str, ...]
    year: int | None


class Catalogue:
    """The items of a bundle. Thread-safe.

    Args:
        path: `items.parquet`.
        n_items: How many there must be.

    Raises:
        BundleError: the file is damaged, or does not fit the manifest.
    """

    def __init__(self, path: Path, n_items: int) -> None:
        table = items_table(path)
        table.check_rows(n_items)
        self._columns = table.read(table.columns)
        self.ids = IdIndex("item_id", self._columns["item_id"])

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    @property
    def has_titles(self) -> bool:
        """Whether the data has titles."""
        return "title" in self._columns

    def __getitem__(self, item_index: int) -> Item:
        """The item at an index, from 1 to n."""
        if not 1 <= item_index <= len(self):
            raise RequestError(f"item index must lie in 1 to {len(self)}, got {item_index}")
        row = {name: column[item_index - 1].as_py() for name, column in self._columns.items()}
        genres = tuple((row.get("genres") or "").split("|")) if row.get("genres") else ()
        return Item(item_index, row["item_id"], row.get("title"), genres, row.get("year"))

    def label(self, item_index: int) -> str:
        """The title of an item, its id where it has none."""
        item = self[item_index]
        return item.title if item.title is not None else str(item.item_id)

    def resolve(self, text: str) -> int:
        """The index of the item with this title (exactly, or ignoring case) or this id.

        The text is looked up as it is first, then without outer spaces.

        Raises:
            RequestError: no item has this title or id (the message names the nearest titles), or several
                items have this title (the message names their ids).
        """
        exact, folded = self._by_title
        for typed in (text, text.strip()):
            found = exact.get(typed) or folded.get(typed.casefold(), [])
            if len(found) > 1:
                ids = ", ".join(str(self[index].item_id) for index in found)
                raise RequestError(f"{len(found)} items are titled {typed!r}: name one by its id, {ids}")
            if index := found[0] if found else self.ids.lookup_text(typed):
                return index
        text = text.strip()
        near = ", ".join(repr(self.label(index)) for index in self.nearest(text))
        raise RequestError(
            f"no item has the title or id {text!r}." + (f" The nearest titles: {near}" if near else "")
        )

    def search(self, query: str, limit: int = 20) -> list[int]:
        """Indices of the items whose title contains every word of `query`, titles that begin with it first.

        An item whose id is `query` comes before all. An empty query finds nothing.
        """
        words = query.casefold().split()
        if not words:
            return []
        found = [index for index, title in enumerate(self._folded, 1) if all(word in title for word in words)]
        phrase = " ".join(words)
        found.sort(
            key=lambda index: (not self._folded[index - 1].startswith(phrase), len(self._folded[index - 1]))
        )
        if by_id := self.ids.lookup_text(query):
            found = [by_id, *(index for index in found if index != by_id)]
        return found[:limit]

    def nearest(self, title: str, limit: int = 3) -> list[int]:
        """Indices of the items with the titles most similar to a mistyped one, the most similar first."""
        from rapidfuzz import fuzz, process

        wanted = title[:MAX_COMPARED].casefold()
        # WRatio also matches parts of titles and reordered words; the plain ratio breaks its many ties.
        found = process.extract(
            wanted, self._folded, scorer=fuzz.WRatio, score_cutoff=MIN_SIMILARITY, limit=N_COMPARED
        )
        found.sort(key=lambda match: (match[1], fuzz.ratio(wanted, match[0])), reverse=True)
        return [place + 1 for _, _, place in found[:limit]]

    @cached_property
    def titles(self) -> list[str | None]:
        """The titles in index order, item 1 first; all None where the data has none."""
        return self._columns["title"].to_pylist() if self.has_titles else [None] * len(self)

    @cached_property
    def _folded(self) -> list[str]:
        return [(title or "").casefold() for title in self.titles]

    @cached_property
    def _by_title(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Index of each title, as it is and folded for comparison without case."""
        exact: dict[str, list[int]] = {}
        folded: dict[str, list[int]] = {}
        for index, title in enumerate(self.titles, 1):
            if title is not None:
                exact.setdefault(title, []).append(index)
                folded.setdefault(title.casefold(), []).append(index)
        return exact, folded
