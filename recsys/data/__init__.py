"""Reading ratings: `load` turns a known name or a path into `Interactions`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys.data.columns import Columns
    from recsys.data.interactions import Interactions
    from recsys.data.loading import load

__all__ = ["Columns", "Interactions", "load"]

_HOMES = {
    "Columns": "recsys.data.columns",
    "Interactions": "recsys.data.interactions",
    "load": "recsys.data.loading",
}


def __getattr__(name: str) -> Any:
    # On first use: `recsys data --help` asks for names and defaults only, and pandas takes a second.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
