"""What the graphs with rules know of the items, as the manifest says it."""

from __future__ import annotations

import msgspec

N_RATINGS, YEAR = "n_ratings", "year"
"""Numbers of an item: its ratings in the training, and its year. Others are features of the data."""
MAX_CATEGORIES = 1000
# A graph with rules compares each of them with its bounds in every call.
MAX_NUMBERS = 16
LARGEST_NUMBER = 1e29
"""Numbers of items and bounds beyond are as good as these."""
# An item without a year has this one: a range has it only where it has no lower end.
UNKNOWN_NUMBER = -1e30
NO_LOWEST, NO_HIGHEST = -1e38, 1e38
"""Bounds that every number obeys, `UNKNOWN_NUMBER` too."""
NAMES = (
    "allow_item_indices",
    "wanted_categories",
    "unwanted_categories",
    "lowest_numbers",
    "highest_numbers",
)
"""The inputs of a graph with rules, beside those of the graph without."""


class ItemRules(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of the inputs of rules."""

    categories: list[str]
    """Of `wanted_categories` and `unwanted_categories`; empty: the items have none, and C is 1."""
    numbers: list[str]
    """Of `lowest_numbers` and `highest_numbers`: `N_RATINGS`, `YEAR` where there are years, then others."""


def number_table(name: str) -> str:
    """The table of a number, float32 [1, n_items + 1]; a feature may have any name, such as "factors"."""
    return f"item_{name}" if name in (N_RATINGS, YEAR) else f"item_number.{name}"


def categories_of(text: str | None) -> list[str]:
    """The categories in a cell such as "Comedy|Romance", each once."""
    return list(dict.fromkeys(name for name in (text or "").split("|") if name))
