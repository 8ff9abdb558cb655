"""Rules that items of a list obey, as nodes: one rule for the whole batch, or one for each of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnxscript import GraphBuilder

from export.graphs.spec import TensorSpec
from export.model.arrays import table
from export.model.item_columns import ItemColumns
from serve.bundle.item_rules import NAMES, NO_HIGHEST, NO_LOWEST, number_table

RULES = (
    TensorSpec(NAMES[0], "int64", ("R", "A")),
    TensorSpec(NAMES[1], "float32", ("R", "C")),
    TensorSpec(NAMES[2], "float32", ("R", "C")),
    TensorSpec(NAMES[3], "float32", ("R", "M")),
    TensorSpec(NAMES[4], "float32", ("R", "M")),
)
"""R is 1 or B. Without a rule: 0; zeros; zeros; -1e38; 1e38."""


def sizes(columns: ItemColumns) -> dict[str, int]:
    """The baked-in sizes of the inputs."""
    return {"C": columns.membership.shape[1], "M": len(columns.numbers)}


def banned_items(graph: GraphBuilder, columns: ItemColumns, rules: Mapping[str, ir.Value]) -> ir.Value:
    """Which items break a rule: bool [R, n_items + 1], for inputs by the names in `RULES`.

    Wanted and unwanted categories are one product: each item gets a number that is positive if it breaks one
    of them. With C categories, an unwanted one counts C + 1, a wanted one -1, to which 1 is added where any
    is wanted; so the wanted ones never make up for an unwanted one.
    """
    op = graph.op
    allow, wanted, unwanted, lowest, highest = (rules[name] for name in NAMES)
    is_wanted, is_unwanted = (_ones(op, op.Greater(asked, 0.5)) for asked in (wanted, unwanted))  # [R, C]
    any_wanted = _ones(op, op.Greater(op.ReduceSum(is_wanted, [1], keepdims=1), 0.5))  # [R, 1]
    n_columns, n_categories = columns.membership.shape
    weights = op.Sub(op.Mul(is_unwanted, float(n_categories + 1)), is_wanted)
    # A last column of ones takes what is added: as the Gemm's third operand, it would double its time.
    weights = op.Concat(weights, any_wanted, axis=1)  # [R, C + 1]
    membership = op.Cast(table(graph, "item_categories", columns.membership), to=ir.DataType.FLOAT)
    membership = op.Concat(membership, op.Expand(1.0, [n_columns, 1]), axis=1)
    banned = op.Greater(op.Gemm(weights, membership, transB=1), 0.5)
    # The extra column keeps the scatter from being empty when A = 0.
    column_shape = op.Concat(op.Shape(allow, start=0, end=1), [1], axis=0)
    listed = op.Concat(allow, op.Expand([0], column_shape), axis=1)  # [R, A + 1]
    has_list = op.Greater(op.ReduceSum(listed, [1], keepdims=1), 0)  # [R, 1]
    unlisted = op.Expand(has_list, [1, n_columns])
    unlisted = op.ScatterElements(unlisted, listed, op.Expand(False, op.Shape(listed)), axis=1)
    banned = op.Or(banned, unlisted)
    for place, (name, column) in enumerate(columns.numbers.items()):
        number = table(graph, number_table(name), column[None])  # [1, N]
        low, high = (op.Slice(bound, [place], [place + 1], [1]) for bound in (lowest, highest))  # [R, 1]
        banned = op.Or(banned, op.Or(op.Less(number, low), op.Greater(number, high)))
    result: ir.Value = banned
    return result


def _ones(op: Any, condition: ir.Value) -> ir.Value:
    ones: ir.Value = op.Cast(condition, to=ir.DataType.FLOAT)
    return ones


def no_rules(columns: ItemColumns, n_rows: int) -> dict[str, npt.NDArray[Any]]:
    """Inputs without a rule, by name; n_rows is R."""
    n_categories, n_numbers = sizes(columns).values()
    return dict(
        zip(
            NAMES,
            (
                np.zeros((n_rows, 1), np.int64),
                np.zeros((n_rows, n_categories), np.float32),
                np.zeros((n_rows, n_categories), np.float32),
                np.full((n_rows, n_numbers), NO_LOWEST, np.float32),
                np.full((n_rows, n_numbers), NO_HIGHEST, np.float32),
            ),
            strict=True,
        )
    )


def example_rules(columns: ItemColumns, n_rows: int) -> dict[str, npt.NDArray[Any]]:
    """Inputs that use every kind of rule, in turn and together; n_rows is R."""
    rules = no_rules(columns, n_rows)
    allow, wanted, unwanted, lowest, highest = rules.values()
    n_items, n_categories = len(columns.membership) - 1, wanted.shape[1]
    every_other = np.arange(1, n_items + 1, 2)[:200]
    allow = np.zeros((n_rows, len(every_other)), np.int64)
    for row in range(n_rows):
        if row % 4 == 0:
            wanted[row, row % n_categories] = wanted[row, (row + 1) % n_categories] = 1
        if row % 4 in (0, 1) and n_categories > 1:
            unwanted[row, (row + 2) % n_categories] = 1
        if row % 4 == 2:
            allow[row] = every_other
        if row % 4 in (2, 3):
            for place, column in enumerate(columns.numbers.values()):
                lowest[row, place], highest[row, place] = np.quantile(
                    column[1:], [0.2, 0.9], method="nearest"
                )
    return rules | {NAMES[0]: allow}
