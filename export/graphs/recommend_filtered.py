"""`recommend_filtered.onnx`: `recommend.onnx` with rules that the listed items obey.

Optional (`recsys export --filtered`), since it holds the tables of `recommend.onnx` once more. Rules ban
items before the K best are taken: a list is short only where few items obey.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graphs import recommend
from export.graphs.build import begin, finish
from export.graphs.rules import RULES, banned_items, example_rules, no_rules, sizes
from export.graphs.spec import Comparison, GraphSpec, Named, Runner
from export.model import reference
from export.model.arrays import Arrays, Int64
from export.model.inputs import ExportInputs, Sample
from export.model.item_columns import ItemColumns
from serve.bundle.conformance import Case
from serve.runtime.validation import padded

INPUTS = (*recommend.INPUTS, *RULES)
# A row of a check names every banned item to `check_lists`, and is compared with every place of a list.
N_CHECKED = 8


def recommend_filtered_graph(
    lists: Arrays, columns: ItemColumns, top_k: int, ratings: Arrays | None = None
) -> ir.Model:
    """As `recommend_graph`; the items obey the rules, one for all users or one for each."""
    graph, (user_index, exclude, *rules) = begin("recommend_filtered", INPUTS, sizes=sizes(columns))
    banned = banned_items(graph, columns, {one.name: one for one in rules if one.name})
    top = recommend.best_items(graph, lists, user_index, exclude, top_k, ratings, banned)
    return finish(graph, recommend.RATED_TOP, top, {"K": top_k})


def columns_of(inputs: ExportInputs) -> ItemColumns:
    """The columns of inputs that have some."""
    assert inputs.columns is not None
    return inputs.columns


def left_out(columns: ItemColumns, rules: Named, exclude: Int64) -> Int64:
    """All that a list must not have: int64 [B, E], 0-padded, for rules of 1 or B rows."""
    banned = np.repeat(columns.banned(rules), len(exclude) // len(rules["allow_item_indices"]), axis=0)
    rows = [np.append(np.flatnonzero(ban), row) for ban, row in zip(banned, exclude, strict=True)]
    return padded(rows, np.int64)


def _cases(inputs: ExportInputs) -> list[Case]:
    """A rule for each user, one of each kind for all of them, and none."""
    columns = columns_of(inputs)
    users = np.resize(np.append(inputs.example_users, 0), 4)
    exclude = padded([inputs.example_history(user).item_indices for user in users], np.int64)
    each = example_rules(columns, 4)
    shared = [{name: array[row : row + 1] for name, array in each.items()} for row in range(4)]
    return [_case(inputs, users, exclude, rules) for rules in (each, *shared, no_rules(columns, 1))]


def _case(inputs: ExportInputs, users: Int64, exclude: Int64, rules: Named) -> Case:
    every = left_out(columns_of(inputs), rules, exclude)
    indices, scores = reference.top_k(inputs.lists.scores64(users), every, inputs.top_k)
    outputs = {"top_item_indices": indices, "top_scores": scores}
    if inputs.rates_lists:
        outputs["top_ratings"] = recommend.ratings_at(inputs.arrays.scores64(users), indices)
    return Case.of({"user_index": users, "exclude_item_indices": exclude, **rules}, outputs)


def _check(run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    """Compare lists of users with a rule each with torch."""
    columns, sample = columns_of(inputs), sample.head(N_CHECKED)
    rules = example_rules(columns, len(sample.users))
    feeds = {"user_index": sample.users, "exclude_item_indices": sample.exclude, **rules}
    every = left_out(columns, rules, sample.exclude)
    return recommend.check_rated(run("recommend_filtered", feeds), inputs, sample.users, every)


SPEC = GraphSpec(
    name="recommend_filtered",
    inputs=INPUTS,
    outputs=recommend.RATED_TOP,
    applies=lambda inputs: inputs.columns is not None,
    build=lambda inputs: recommend_filtered_graph(
        inputs.lists, columns_of(inputs), inputs.top_k, recommend.ratings_of(inputs)
    ),
    cases=_cases,
    check=_check,
    tolerance=recommend.tolerance,
)
