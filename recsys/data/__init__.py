"""Reading ratings: `load` turns a known name or a path into `Interactions`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys.data.interactions import Interactions
    from recsys.data.loading import load
    from recsys.data.ratings_table import Columns

__all__ = ["DUPLICATES", "ITEM_KEYS", "Columns", "Interactions", "load"]

# The choices of two options: here, because the help of the commands must not wait for numpy and pandas.
ITEM_KEYS = ("id", "title")
DUPLICATES = ("error", "last", "mean")

_HOMES = {"Columns": "ratings_table", "Interactions": "interactions", "load": "loading"}


def __getattr__(name: str) -> Any:
    # Imported on first use, because pandas takes a second and `recsys data --help` needs only names.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"recsys.data.{_HOMES[name]}"), name)
