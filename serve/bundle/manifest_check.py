"""Whether a manifest fits itself, what a `Recommender` calls, and the tensors in the graphs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from serve.bundle.item_rules import MAX_CATEGORIES, MAX_NUMBERS, N_RATINGS, NAMES, YEAR, number_table
from serve.bundle.manifest import Graph, Manifest, Table, Tensor
from serve.bundle.onnx_wire import WireTensor
from serve.bundle.packing import PRECISIONS, SCALES, STORED, UNITS, Packing
from serve.bundle.shards import MERGE, SHARD, fault_of_shards, list_graphs, role

# Graph that a `Recommender` calls, by its role -> its inputs, and the outputs that are read, as (name, dtype,
# rank). A graph may have further outputs, and a bundle further graphs.
_USER = ("user_index", "int64", 1)
_ITEM = ("item_index", "int64", 1)
_EXCLUDE = ("exclude_item_indices", "int64", 2)
_RATED = {("item_indices", "int64", 2), ("ratings", "float32", 2)}
_RULES = {(name, "int64" if place == 0 else "float32", 2) for place, name in enumerate(NAMES)}
_TOP = {("top_item_indices", "int64", 2), ("top_scores", "float32", 2)}
CALLED: dict[str, tuple[set[tuple[str, str, int]], set[tuple[str, str, int]]]] = {
    "score": ({_USER, _ITEM}, {("score", "float32", 1)}),
    "recommend": ({_USER, _EXCLUDE}, _TOP),
    "recommend_fast": ({_USER, _EXCLUDE}, _TOP),
    SHARD: ({_USER, _EXCLUDE}, _TOP),
    MERGE: ({_USER, ("shard_item_indices", "int64", 2), ("shard_scores", "float32", 2)}, _TOP),
    "similar_items": ({_ITEM}, _TOP),
    "fold_in": (_RATED, _TOP),
    "recommend_filtered": ({_USER, _EXCLUDE} | _RULES, _TOP),
    "fold_in_filtered": (_RATED | {_EXCLUDE} | _RULES, _TOP),
    "explain": (
        _RATED | {("explained_item_indices", "int64", 2)},
        {("contributions", "float32", 3), ("rest", "float32", 2)},
    ),
}
# Of `recommend`, its variants and shards, and `fold_in`, where the scores that order a list are no ratings:
# `fold_in` has it where these can be folded in, the others wherever `score` predicts ratings.
TOP_RATINGS = ("top_ratings", "float32", 2)
SHARD_RATINGS = ("shard_ratings", "float32", 2)
"""The input of `merge` for that."""
TABLE_ROWS = {
    "user_factors": "users",
    "user_biases": "users",
    "item_factors": "items",
    "item_biases": "items",
}
# Graph -> of what it holds a table with a row for each, so that the manifest's numbers of users and items, by
# which all else is bounded, are no larger than what is on disk.
ROWS_HELD = {
    "score": ("users", "items"),
    "recommend": ("users", "items"),
    "recommend_fast": ("users", "items"),
    SHARD: ("users", "items"),
    "similar_items": ("items",),
    "fold_in": ("items",),
    "recommend_filtered": ("users", "items"),
    "fold_in_filtered": ("items",),
    "explain": ("items",),
}
MAX_GRAPHS = 100
MAX_TABLES = 1000
MAX_BARS = 1000
"""Of a histogram."""
# Larger figures overflow in the arithmetic of those who show them.
LARGEST = 1e18

Tensors = Mapping[str, Sequence[WireTensor]]
"""File of a graph -> its tensors."""
Held = dict[str, list[tuple[str, list[int], int]]]
"""Name of a tensor of a graph -> type, shape and bytes; malformed graphs have several of one name."""


def fault(manifest: Manifest, tensors: Tensors) -> str | None:
    """What is wrong with a manifest whose types are right, or None."""
    return (
        _fault_of_figures(manifest)
        or _check_graphs(manifest)
        or _check_rows(manifest, tensors)
        or _check_tables(manifest, tensors)
    )


def fault_of_counts(manifest: Manifest) -> str | None:
    """What is wrong with its numbers of graphs, users and items, before any graph is read; or None."""
    n_users, n_items = manifest.model.n_users, manifest.model.n_items
    if not (1 <= n_users < 1 << 31 and 1 <= n_items < 1 << 31):
        return f"{n_users} users and {n_items} items are impossible"
    if any(one.n_users < 1 for one in manifest.forgotten) or manifest.n_forgotten >= n_users:
        return f"{manifest.n_forgotten} of {n_users} users can't have been forgotten"
    if len(manifest.graphs) > MAX_GRAPHS:
        return f"it lists {len(manifest.graphs)} graphs, more than {MAX_GRAPHS}"
    n_named = sum(len(table.graphs) for table in manifest.tables)
    if len(manifest.tables) > MAX_TABLES or n_named > MAX_TABLES * MAX_GRAPHS:
        return f"it lists {len(manifest.tables)} tables in {n_named} graphs, more than {MAX_TABLES}"
    files = [graph.file for graph in manifest.graphs.values()]
    if twice := [file for file in files if files.count(file) > 1]:
        return f"two graphs are in {twice[0]}"
    return None


def _fault_of_figures(manifest: Manifest) -> str | None:
    """Which scale of the data or the scores is none, or None. JSON has no NaN and no infinity."""
    model, data = manifest.model, manifest.data
    scales = {
        "ratings_range": data.ratings_range,
        "score_scale": model.score_scale,
        "score_range": model.score_range,
    }
    for name, scale in scales.items():
        if scale is not None and not -LARGEST <= scale[0] <= scale[1] <= LARGEST:
            return f"the {name} is {scale}"
    for name, span in (("score_span", model.score_span), ("list_span", model.list_span)):
        if not 0 <= span <= LARGEST:
            return f"the {name} is {span}"
    if (held_out := manifest.held_out) is not None:
        lists = held_out.ratings, held_out.n_observed, held_out.n_predicted
        n_bars, n_bands = {len(bars) for bars in lists}, len(held_out.by_popularity)
        if len(n_bars) != 1 or max(n_bars) > MAX_BARS or n_bands > MAX_BARS:
            return f"the held-out ratings are in {sorted(n_bars)} bars and {n_bands} bands"
    if data.n_ratings < 0 or not 0 <= model.n_factors < 1 << 31:
        return f"{data.n_ratings} ratings and {model.n_factors} factors are impossible"
    return None


def signature(tensors: Iterable[Tensor]) -> set[tuple[str, str, int]]:
    """(name, dtype, rank) of each input or output."""
    return {(tensor.name, tensor.dtype, len(tensor.shape)) for tensor in tensors}


def score_bounds(manifest: Manifest) -> tuple[float, float]:
    """Between which `score.onnx` answers: where the model does, and by the graph's tolerance beyond."""
    low, high = manifest.model.score_range or (-LARGEST, LARGEST)
    beyond = manifest.graphs["score"].tolerance["score"] + 1e-6 * max(abs(low), abs(high))
    return low - beyond, high + beyond


def _check_graphs(manifest: Manifest) -> str | None:
    """What the manifest's graphs lack to be called, or None."""
    n_items = manifest.model.n_items
    required = ("score", *list_graphs(manifest.graphs))
    if missing := [name for name in required if name not in manifest.graphs]:
        return f"it lists no {missing[0]} graph"
    for name, graph in manifest.graphs.items():
        inputs, outputs = signature(graph.inputs), signature(graph.outputs)
        called = CALLED.get(role(name), (inputs, set()))
        rated = {SHARD_RATINGS} if name == MERGE and TOP_RATINGS in outputs else set()
        if inputs != called[0] | rated:
            return f"the inputs of {name} are {inputs}, not {called[0] | rated}"
        if not called[1] <= outputs:
            return f"the outputs of {name} are {outputs}, without {called[1] - outputs}"
        if wrong := _fault_of_ratings(name, outputs, manifest) or _fault_of_rules(name, graph, manifest):
            return wrong
        ranks = any(output.startswith("top_") for output, _, _ in outputs)
        if ranks and ("top_scores", "float32", 2) not in outputs:
            return f"{name} has lists without top_scores"
        if not (1 <= (graph.top_k or 0) <= n_items if ranks else graph.top_k is None):
            return f"{name} has the top_k {graph.top_k} of {n_items} items"
        for output in graph.outputs:
            if output.name.startswith("top_") and output.shape[1:] != [graph.top_k]:
                return f"{output.name} of {name} is {output.shape}, and its top_k is {graph.top_k}"
        floats = {output for output, dtype, _ in outputs if dtype == "float32"}
        if graph.tolerance.keys() != floats or not all(0 < t < math.inf for t in graph.tolerance.values()):
            return f"the tolerance of {name} is {graph.tolerance}"
        if graph.precision not in PRECISIONS:
            return f"the precision of {name} is {graph.precision!r}"
        if not 1 <= graph.items[0] < graph.items[1] <= n_items + 1:
            return f"the items of {name} are {graph.items} of {n_items}"
        if role(name) in CALLED.keys() - {SHARD} and graph.items != (1, n_items + 1):
            return f"the items of {name} are {graph.items}, not all {n_items}"
    return fault_of_shards(manifest)


def _fault_of_rules(name: str, graph: Graph, manifest: Manifest) -> str | None:
    """How the inputs of rules differ from the columns that the manifest lists, or None."""
    widths = {one.name: one.shape[-1] for one in graph.inputs if one.name in NAMES[1:]}
    if not widths or not name.endswith("_filtered"):
        return None
    rules = manifest.item_rules
    if rules is None:
        return f"it lists no item_rules, and {name}"
    numbers = rules.numbers
    are_numbers = numbers[:1] == [N_RATINGS] and all(numbers) and len({*numbers}) == len(numbers)
    are_numbers &= YEAR not in numbers[2:]
    if len(rules.categories) > MAX_CATEGORIES or not are_numbers or len(numbers) > MAX_NUMBERS:
        return f"its item_rules have {len(rules.categories)} categories and the numbers {numbers}"
    if rules.categories != sorted(set(rules.categories)):
        return f"the categories of its item_rules are not in order, each once: {rules.categories[:5]}"
    of_all_items = ("float32", [1, manifest.model.n_items + 1])
    tables = {one.name: (one.dtype, one.shape) for one in manifest.tables if name in one.graphs}
    for number in numbers:
        if (found := tables.get(number_table(number))) != of_all_items:
            return f"{number_table(number)} of {name} should be {of_all_items}; there is {found or 'none'}"
    n_categories, n_numbers = max(1, len(rules.categories)), len(numbers)
    right = dict(zip(NAMES[1:], (n_categories, n_categories, n_numbers, n_numbers), strict=True))
    return None if widths == right else f"the inputs of {name} have the widths {widths}, not {right}"


def _fault_of_ratings(name: str, outputs: set[tuple[str, str, int]], manifest: Manifest) -> str | None:
    """What is wrong with the predicted ratings beside the scores of a list, or None."""
    model = manifest.model
    kind = role(name).removesuffix("_filtered")
    if kind not in ("recommend", "recommend_fast", SHARD, MERGE, "fold_in"):
        return None
    if model.lists == "ratings" and model.scores == "ranking":
        return "its lists are ordered by ratings, which nothing predicts"
    found = {output for output in outputs if output[0] == TOP_RATINGS[0]}
    if found - {TOP_RATINGS}:
        return f"the outputs of {name} are {outputs}: not {TOP_RATINGS}"
    is_rated = (model.lists, model.scores) == ("ranking", "ratings")
    if found and not is_rated:
        return f"{name} has top_ratings, though {model.lists} order its lists and scores are {model.scores}"
    if is_rated and not found and kind != "fold_in":
        return f"{name} has no top_ratings beside the scores that order its lists"
    return None


def _check_rows(manifest: Manifest, tensors: Tensors) -> str | None:
    """Which graph that is called has no table with a row for each user or item, or None."""
    called = [(kind, name) for kind in ROWS_HELD for name in manifest.graphs if role(name) == kind]
    for kind, name in called:
        graph = manifest.graphs[name]
        first, stop = graph.items
        n_rows = {"users": manifest.model.n_users + 1, "items": stop - first + 1}
        held = tensors[graph.file]
        # Of no columns, a table of any number of rows takes no bytes; two of int4 take one.
        rows = {tensor.shape[0] for tensor in held if tensor.shape and 2 * tensor.n_bytes >= tensor.shape[0]}
        for side in ROWS_HELD[kind]:
            if n_rows[side] not in rows:
                n = n_rows[side]
                whose = "shard" if (kind, side) == (SHARD, "items") else "model"
                return f"{name} has no table of {n} rows, and the {whose} has {n - 1} {side}"
    return None


def _fault_of_packing(table: Table, packing: Packing, held: Mapping[str, Held]) -> str | None:
    """How a packed table, or a tensor beside it, is not what the packing says; or None."""
    n_rows = table.shape[0] if table.shape else 0
    wanted = {table.name: (STORED.get(packing.precision), [n_rows, packing.stored_columns])}
    wanted[table.name + UNITS] = ("float32", [packing.columns])
    if packing.precision != "float16":
        wanted[table.name + SCALES] = ("float16", [n_rows, 1])
    for graph, tensors in held.items():
        for name, (dtype, shape) in wanted.items():
            if table.name not in tensors and name not in tensors:
                continue
            found = [one[:2] for one in tensors.get(name, [])]
            if found != [(dtype, shape)]:
                return f"{name} of {graph} should be {dtype} {shape}; there is {found[:3] or 'none'}"
    return None


def _check_tables(manifest: Manifest, tensors: Tensors) -> str | None:
    """How the manifest's tables differ from those in the graphs, or from the model's sizes; or None."""
    n_rows = {"users": manifest.model.n_users + 1, "items": manifest.model.n_items + 1}
    held: dict[str, Held] = {}
    for name, graph in manifest.graphs.items():
        of_graph: Held = {}
        held[name] = of_graph
        for t in tensors[graph.file]:
            of_graph.setdefault(t.name, []).append((t.dtype, list(t.shape), t.n_bytes))
    for table in manifest.tables:
        side = TABLE_ROWS.get(table.name)
        if side is not None and table.shape[:1] != [n_rows[side]]:
            return f"{table.name} has the shape {table.shape}, and the model has {n_rows[side] - 1} {side}"
        if table.packing is not None and (wrong := _fault_of_packing(table, table.packing, held)):
            return wrong
        for name in set(table.graphs):
            found = held.get(name, {}).get(table.name, [])
            if (table.dtype, table.shape, table.bytes) not in found:
                wanted = f"{table.dtype} {table.shape}"
                return f"table {table.name} of {name} should be {wanted}; there is {found[:3] or 'none'}"
    return None
