"""Rules that the items of a list obey, from names and ids to the inputs of a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from serve.bundle.item_rules import (
    LARGEST_NUMBER,
    N_RATINGS,
    NAMES,
    NO_HIGHEST,
    NO_LOWEST,
    YEAR,
    ItemRules,
)
from serve.errors import RequestError, UnsupportedError
from serve.runtime.batching import Top

if TYPE_CHECKING:
    from serve.runtime.recommender import Recommender

# Categories that an error names, the nearest first.
MAX_SHOWN = 20


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Rules for every list of a call. `Rules()` has none."""

    allow: Sequence[int | str] | None = None
    """Ids of the only items to list; None: all. Ids that are not in the bundle are ignored."""
    deny: Sequence[int | str] = ()
    """Ids of items not to list, likewise."""
    categories: Sequence[str] = ()
    """Categories (genres) of which a listed item has at least one."""
    not_categories: Sequence[str] = ()
    """Categories of which it has none."""
    min_ratings: int | None = None
    """The least number of training ratings of a listed item."""
    max_ratings: int | None = None
    """The largest."""
    min_year: int | None = None
    """The earliest year of a listed item; one without a year is not listed."""
    max_year: int | None = None
    """The latest year; an item without a year is listed unless `min_year` is given."""
    numbers: Mapping[str, tuple[float | None, float | None]] = {}
    """The least and the largest of further numbers of the items (numeric features of the data), by name;
    None: any. An item without the number is listed unless the least is given. Compared as float32."""


class RuleInputs(NamedTuple):
    """Rules as a graph takes them; empty without rules."""

    feeds: dict[str, np.ndarray]
    """The inputs of rules, by name, one row each."""
    deny: np.ndarray
    """int64 [n], items to exclude, 0 where an id is unknown."""

    def graph(self, plain: str) -> str:
        """The graph that takes these inputs: `plain`, or the one of its name with rules."""
        return f"{plain}_filtered" if self.feeds else plain

    def denied(self, n_rows: int) -> np.ndarray | None:
        """What every row excludes, int64 [n_rows, n]; None without rules."""
        return np.tile(self.deny, (n_rows, 1)) if self.feeds else None


NO_INPUTS = RuleInputs({}, np.zeros(0, np.int64))


def rule_inputs(rules: Rules | None, recommender: Recommender) -> RuleInputs:
    """The inputs of a graph for rules.

    Raises:
        RequestError: an unknown category, a range without a number in it, no known item in `allow`, or a
            value of the wrong type.
        UnsupportedError: the bundle has no graphs with rules.
    """
    if rules is None or not _given(rules):
        return NO_INPUTS
    columns, items = recommender.manifest.item_rules, recommender.items
    if columns is None:
        raise UnsupportedError(
            "this bundle has no graphs with rules: export its run again with `recsys export --filtered`"
        )
    wanted, unwanted = (
        [_category(name, columns) for name in _list("categories", names)]
        for names in (rules.categories, rules.not_categories)
    )
    if both := set(wanted) & set(unwanted):
        raise RequestError(f"the category {columns.categories[both.pop()]!r} is both wanted and unwanted")
    lowest, highest = (np.full((1, len(columns.numbers)), end, np.float32) for end in (NO_LOWEST, NO_HIGHEST))
    for name, low, high in _ranges(rules, columns):
        place = columns.numbers.index(name)
        lowest[0, place] = lowest[0, place] if low is None else low
        highest[0, place] = highest[0, place] if high is None else high
    allow = np.zeros(1, np.int64)
    if rules.allow is not None:
        allow = items.ids.lookup(_list("allow", rules.allow))
        if not allow.any():
            raise RequestError(f"none of the {len(allow)} items in allow is in this bundle")
    of_categories = (_one_hot(chosen, len(columns.categories)) for chosen in (wanted, unwanted))
    feeds = dict(zip(NAMES, (allow[None], *of_categories, lowest, highest), strict=True))
    deny = _list("deny", rules.deny)
    return RuleInputs(feeds, items.ids.lookup(deny) if deny else np.zeros(0, np.int64))


def check_left(top: Top, rules: Rules | None) -> None:
    """Refuse lists that are all empty. Raises RequestError: no item is left, in any of them."""
    if rules is not None and not top.indices.any():
        asked = ", ".join(f"{name}={value!r:.60}" for name, value in _given(rules).items())
        raise RequestError(
            f"no item is left: none that the user has not rated obeys {asked or 'the exclusions'}"
        )


def _given(rules: Rules) -> dict[str, Any]:
    """The rules that say something, by name. An empty `allow` does: it allows nothing."""
    values = {name: getattr(rules, name) for name in rules.__struct_fields__}
    return {
        name: value
        for name, value in values.items()
        if value is not None and (name == "allow" or not hasattr(value, "__len__") or len(value))
    }


def _list(name: str, values: Any) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        raise RequestError(f"{name} must be a list, got {values!r:.80}")
    return list(values)


def _ranges(rules: Rules, columns: ItemRules) -> list[tuple[str, float | None, float | None]]:
    """The numbers that have bounds, with their lower and upper ones."""
    named: dict[str, tuple[str, str]] = {}
    asked: list[tuple[str, Any, Any]] = []
    for name, what in ((N_RATINGS, "ratings"), (YEAR, "year")):
        named[name] = f"min_{what}", f"max_{what}"
        low, high = (_integer(end, getattr(rules, end)) for end in named[name])
        if name not in columns.numbers and not low is high is None:
            raise RequestError(
                f"the items of this bundle have no {what}, so min_{what} and max_{what} can't be used"
            )
        asked.append((name, low, high))
    others = [name for name in columns.numbers if name not in named]
    numbers: Any = rules.numbers
    if not isinstance(numbers, Mapping):
        raise RequestError(f"numbers must map names to pairs, got {numbers!r:.80}")
    for name, ends in numbers.items():
        if name in columns.numbers and name not in others:
            raise RequestError(f"{name!r} has bounds of its own: {' and '.join(named[name])}, not numbers")
        if name not in others:
            known = f"there are {', '.join(map(repr, others))}" if others else "nor any other"
            raise RequestError(f"the items of this bundle have no number {name!r:.80}, {known}")
        if not isinstance(ends, list | tuple) or len(ends) != 2:
            raise RequestError(f"numbers[{name!r:.80}] must be a pair of bounds, got {ends!r:.80}")
        least, most = named[name] = f"the least {name}", f"the largest {name}"
        asked.append((name, _number(least, ends[0]), _number(most, ends[1])))
    for name, low, high in asked:
        if low is not None and high is not None and low > high:
            least, most = named[name]
            raise RequestError(
                f"{least} is {low:.12g}, more than {most}, {high:.12g}: no item lies in between"
            )
    return [(name, low, high) for name, low, high in asked if not low is high is None]


def _integer(name: str, value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer)):
        raise RequestError(f"{name} must be an integer, got {value!r:.80}")
    return _number(name, value)


def _number(name: str, value: Any) -> float | None:
    """A bound, brought within those that float32 holds."""
    if value is None:
        return None
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or value != value:
        raise RequestError(f"{name} must be a number, got {value!r:.80}")
    return float(max(-LARGEST_NUMBER, min(value, LARGEST_NUMBER)))


def place_of(name: Any, categories: Sequence[str]) -> int | None:
    """The place of a category; its case does not matter where one alone is like that. None: there is none."""
    if name in categories:
        return categories.index(name)
    like = [
        place
        for place, one in enumerate(categories)
        if isinstance(name, str) and one.casefold() == name.casefold()
    ]
    return like[0] if len(like) == 1 else None


def _category(name: Any, columns: ItemRules) -> int:
    """The column of a category."""
    known = columns.categories
    if (place := place_of(name, known)) is not None:
        return place
    if not known:
        raise RequestError(f"no category {name!r:.80}: the items of this bundle have no categories")
    from rapidfuzz import process

    nearest = [
        one
        for one, _, _ in process.extract(
            str(name)[:80].casefold(), known, processor=str.casefold, limit=MAX_SHOWN
        )
    ]
    more = ", …" if len(known) > MAX_SHOWN else ""
    raise RequestError(f"no category {name!r:.80}. There are {', '.join(map(repr, nearest))}{more}")


def _one_hot(chosen: list[int], n_categories: int) -> np.ndarray:
    row = np.zeros((1, max(1, n_categories)), np.float32)
    row[0, chosen] = 1
    return row
