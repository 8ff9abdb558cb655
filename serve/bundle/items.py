"""`items.parquet`: ids, titles, genres and years of the items, and search by title or id."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from serve.bundle.ids import IdIndex, items_table
from serve.bundle.item_rules import categories_of
from serve.bundle.titles import article_first, folded, shorter, starts
from serve.errors import RequestError

# Characters of a mistyped title that are compared: the time grows with them.
MAX_COMPARED = 200
# Best matches by rapidfuzz's WRatio that are sorted again by its plain ratio.
N_COMPARED = 64
# The least similarity of a title that is suggested, on rapidfuzz's scale from 0 to 100.
MIN_SIMILARITY = 62
# Items of one name that an error shows.
MAX_SHOWN = 10


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
        """The index of the one item with this title or id; "id:" or "title:" before it says which of the two.

        A title is compared exactly; then without case; then with its article in front; then without the year
        and other names in parentheses. An id that is another item's title in any of these ways is refused.

        Raises:
            RequestError: no item has this title or id (the message names the nearest titles), or several have
                (the message names them and their ids).
        """
        for name, by_id, titled in self._readings(text):
            found = list(dict.fromkeys([*by_id, *titled]))
            if len(found) == 1:
                return found[0]
            if found:
                raise self._ambiguous(name, by_id, titled)
        text = text.strip()
        near = ", ".join(repr(self.label(index)) for index in self.nearest(text))
        raise RequestError(
            f"no item has the title or id {text!r}." + (f" The nearest titles: {near}" if near else "")
        )

    def _readings(self, text: str) -> Iterator[tuple[str, list[int], list[int]]]:
        """The name in `text`, the items with this id, and those with this title: the prefix first, if any."""
        prefix, _, name = text.partition(":")
        match prefix.strip().casefold():
            case "id":
                yield name.strip(), self._with_id(name), []
            case "title":
                yield name.strip(), [], self._titled(name)
        yield text.strip(), self._with_id(text), self._titled(text)

    def _with_id(self, text: str) -> list[int]:
        index = self.ids.lookup_text(text)
        return [index] if index else []

    def _titled(self, text: str) -> list[int]:
        """Indices of the items that this title means, the most exact comparison that finds any."""
        exact, by_folded = self._by_title
        wanted = folded(text)
        if not text.strip():  # no item's name, even where a title is empty
            return []
        if found := exact.get(text) or by_folded.get(wanted):
            return found
        if not wanted:
            return []
        typed, beginnings = article_first(wanted), starts(wanted)
        like = [
            index
            for index, title in enumerate(self._folded, 1)
            if beginnings[0] in title and title.startswith(beginnings)
        ]
        if found := [index for index in like if article_first(self._folded[index - 1]) == typed]:
            return found
        return [index for index in like if typed in shorter(self._folded[index - 1], self[index].year)]

    def _ambiguous(self, name: str, by_id: list[int], titled: list[int]) -> RequestError:
        """The error for a name of several items."""
        shown = ", ".join(f"{self.label(index)!r} (id {self[index].item_id})" for index in titled[:MAX_SHOWN])
        shown += ", …" if len(titled) > MAX_SHOWN else ""
        if not by_id:
            return RequestError(
                f"{len(titled)} items are titled {name!r}: {shown}. Name one as id:{self[titled[0]].item_id}"
            )
        return RequestError(
            f"{name!r} is the id of {self.label(by_id[0])!r} and the title of {shown}: name one as "
            f"id:{name} or title:{name}"
        )

    def search(self, query: str, limit: int = 20) -> list[int]:
        """Indices of the items whose title contains every word of `query`, titles that begin with it first.

        The items that `query` names, as for `resolve`, come before all: an id, then a title. An empty query
        finds nothing.
        """
        readings = list(self._readings(query))
        name, by_id, titled = next((one for one in readings if one[1] or one[2]), readings[0])
        if by_id and name != query.strip():  # as "id:…"
            return by_id[:limit]
        phrase = folded(name)
        words = phrase.split()
        if not words:
            return []
        found = [index for index, title in enumerate(self._folded, 1) if all(word in title for word in words)]
        found.sort(
            key=lambda index: (not self._folded[index - 1].startswith(phrase), len(self._folded[index - 1]))
        )
        return list(dict.fromkeys([*by_id, *titled, *found]))[:limit]

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

    @property
    def genres(self) -> list[str | None] | None:
        """The cells of genres in index order, "|" between two; None where the data has none."""
        return self._columns["genres"].to_pylist() if "genres" in self._columns else None

    @property
    def categories(self) -> set[str]:
        """The genres of all items."""
        cells = self._columns["genres"].unique().to_pylist() if "genres" in self._columns else []
        return {name for text in cells for name in categories_of(text)}

    @property
    def years(self) -> list[int | None] | None:
        """The years, likewise."""
        return self._columns["year"].to_pylist() if "year" in self._columns else None

    @cached_property
    def _folded(self) -> list[str]:
        return [folded(title or "") for title in self.titles]

    @cached_property
    def _by_title(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Index of each title, as it is and folded for comparison without case."""
        exact: dict[str, list[int]] = {}
        by_folded: dict[str, list[int]] = {}
        for index, (title, compared) in enumerate(zip(self.titles, self._folded, strict=True), 1):
            if title is not None:
                exact.setdefault(title, []).append(index)
                by_folded.setdefault(compared, []).append(index)
        return exact, by_folded
