"""A catalogue in shards: the names of its graphs and tables, and whether the ranges cover the items."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import count, takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serve.bundle.manifest import Graph, Manifest

SHARD = "recommend_shard"
"""What the graphs of all shards have in common; `shard_name` is the name of one."""
MERGE = "merge"
MAX_SHARDS = 64
_NUMBERED = re.compile(rf"{SHARD}_[0-9]+")
_OF_SHARD = re.compile(r"_shard_[0-9]+\Z")


def shard_name(number: int) -> str:
    """The graph of a shard, counted from 0 in the order of the items."""
    return f"{SHARD}_{number}"


def role(graph: str) -> str:
    """What a graph is: `SHARD` of any shard, else its name."""
    return SHARD if _NUMBERED.fullmatch(graph) else graph


def shard_table(name: str, number: int) -> str:
    """The name of the rows that a shard has of a table of items."""
    return f"{name}_shard_{number}"


def whole_table(name: str) -> str:
    """The table whose rows a shard's table has; of any other, its name."""
    return _OF_SHARD.sub("", name)


def shards_of(graphs: Mapping[str, Graph]) -> list[str]:
    """The graphs of the shards, in the order of the items; none where the catalogue is in one piece."""
    return list(takewhile(graphs.__contains__, map(shard_name, count())))


def list_graphs(graphs: Mapping[str, Graph]) -> list[str]:
    """The graphs that together make a user's list; its length is the K of the last."""
    return [*shards_of(graphs), MERGE] if MERGE in graphs else ["recommend"]


def fault_of_shards(manifest: Manifest) -> str | None:
    """What is wrong with the names, ranges and lengths of the lists of the shards, or None."""
    graphs, n_items = manifest.graphs, manifest.model.n_items
    names, merge = shards_of(graphs), graphs.get(MERGE)
    numbered = [name for name in graphs if role(name) == SHARD]
    if merge is None and not numbered:
        return None
    if merge is None or "recommend" in graphs or not 2 <= len(names) <= MAX_SHARDS:
        beside = " beside recommend" if "recommend" in graphs else ""
        return f"it lists {len(names)} shards and {'no' if merge is None else 'a'} merge{beside}"
    if stray := sorted(set(numbered) - set(names)):
        return f"it lists {stray[0]} after {names[-1]}"
    start = 1
    for name in names:
        first, stop = graphs[name].items
        if first != start or not first < stop <= n_items + 1:
            return f"the items of {name} are {first} to {stop - 1} of {n_items}, and should begin at {start}"
        k = min(merge.top_k or 0, stop - first)
        if graphs[name].top_k != k:
            return f"{name} has the top_k {graphs[name].top_k}, and merge needs {k}"
        start = stop
    if start != n_items + 1:
        return f"the shards end at item {start - 1} of {n_items}"
    width = sum(graphs[name].top_k or 0 for name in names)
    for one in merge.inputs:
        if one.name.startswith("shard_") and one.shape[1:] != [width]:
            return f"{one.name} of merge is {one.shape}, and the shards list {width} items"
    return None
