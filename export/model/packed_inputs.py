"""An export with packed tables: the inputs of one whose model has the numbers that these stand for.

So nothing else changes: graphs are built from the rounded numbers and compared with the rounded model at the
ordinary tolerance, and `export.graphs.packed_tables` replaces tables by codes for the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import nn

from export.model.arrays import Arrays, Float32, Float64
from export.model.dot import DotArrays
from export.model.hidden_mlp import HiddenMlp
from export.model.inputs import ExportInputs
from export.model.mlp import MlpArrays
from export.model.packed_table import PackedTable, pack
from export.model.product_module import product_module
from export.model.ridge import moment
from export.model.row_solvers import ImplicitRidge, InputRows, RowSolver
from export.model.similar_items import directions, similar_rows
from serve.bundle.packing import Precision

OF_PRODUCT = ("user_factors", "item_factors", "user_biases", "item_biases")
Packed = Mapping[str, PackedTable]


def float_tables(inputs: ExportInputs) -> dict[str, Float32]:
    """The tables with a row for each user or item, as they are: float32 [n, F] by their names in graphs."""
    found = _tables_of(inputs.arrays)
    if inputs.ranking is not None:
        found |= _tables_of(inputs.ranking.dot)
        solvers = (part.solver for part in inputs.ranking.parts)
        found |= {solver.table_name: _rows(solver) for solver in solvers if solver is not None}
    found["item_directions"] = directions(similar_rows(inputs.lists))
    found["item_support"] = inputs.item_support[:, None]
    return found


def pack_inputs(inputs: ExportInputs, precision: Precision) -> ExportInputs:
    """The inputs with all these tables rounded to a precision."""
    tables = float_tables(inputs)
    packed: dict[str, PackedTable] = {}
    # Users after the items that their rows are multiplied by, input rows likewise.
    for name in sorted(tables, key=lambda name: "user_" in name or name == InputRows.table_name):
        packed[name] = pack(tables[name], precision, _moments(name, tables, packed, inputs))
    return with_packed(inputs, packed, precision)


def with_packed(inputs: ExportInputs, packed: Packed, precision: Precision) -> ExportInputs:
    """The inputs with tables of these numbers in place of those of the same names."""
    arrays, ranking = _with_tables(inputs.arrays, packed), inputs.ranking
    module, ranking_module = _module(arrays), inputs.ranking_module
    if ranking is not None:
        parts = tuple(
            replace(part, solver=None if part.solver is None else _with_rows(part.solver, packed))
            for part in ranking.parts
        )
        dot = _with_tables(ranking.dot, packed)
        assert isinstance(dot, DotArrays)
        ranking = replace(ranking, dot=dot, parts=parts)
        ranking_module = product_module(ranking.without_popularity)
    elif ranking_module is not None:  # an MLP that ranks is the model of the scores, too
        ranking_module = module
    return replace(
        inputs,
        module=module,
        arrays=arrays,
        ranking_module=ranking_module,
        ranking=ranking,
        item_support=packed["item_support"].numbers[:, 0],
        item_directions=packed["item_directions"].numbers,
        precision=precision,
        packed=packed,
    )


def _tables_of(arrays: Arrays) -> dict[str, Float32]:
    if isinstance(arrays, DotArrays):
        found = {arrays.prefix + name: getattr(arrays, name) for name in OF_PRODUCT}
        return {name: table for name, table in found.items() if table is not None}
    assert isinstance(arrays, MlpArrays)
    tables = {"user_hidden": arrays.user_hidden, "item_hidden": arrays.item_hidden}
    return (
        tables if arrays.linear_map is None else tables | {"average_logits": arrays.linear_map.average_logits}
    )


def _with_tables(arrays: Arrays, packed: Packed) -> DotArrays | MlpArrays:
    if isinstance(arrays, DotArrays):
        user_biases, item_biases = (packed.get(arrays.prefix + name) for name in OF_PRODUCT[2:])
        return replace(
            arrays,
            user_factors=packed[arrays.prefix + OF_PRODUCT[0]].numbers,
            item_factors=packed[arrays.prefix + OF_PRODUCT[1]].numbers,
            user_biases=None if user_biases is None else user_biases.numbers,
            item_biases=None if item_biases is None else item_biases.numbers,
        )
    assert isinstance(arrays, MlpArrays)
    linear_map = arrays.linear_map
    if linear_map is not None:
        linear_map = replace(linear_map, average_logits=packed["average_logits"].numbers)
    return replace(
        arrays,
        user_hidden=packed["user_hidden"].numbers,
        item_hidden=packed["item_hidden"].numbers,
        linear_map=linear_map,
    )


def _rows(solver: RowSolver) -> Float32:
    assert isinstance(solver, InputRows | ImplicitRidge)
    return solver.input_factors if isinstance(solver, InputRows) else solver.item_factors


def _with_rows(solver: RowSolver, packed: Packed) -> RowSolver:
    numbers = packed[solver.table_name].numbers
    if isinstance(solver, InputRows):
        return replace(solver, input_factors=numbers)
    assert isinstance(solver, ImplicitRidge)
    return replace(solver, item_factors=numbers)


def _moments(
    name: str, tables: Mapping[str, Float32], packed: Packed, inputs: ExportInputs
) -> Float64 | None:
    """The moments of what the rows of a table are multiplied by; None: nothing of the kind, or unknown."""
    if name == "item_directions":
        return moment(tables[name])
    if name.endswith("item_factors"):
        return moment(tables[name.replace("item_", "user_")][1:])
    if name.endswith("user_factors"):
        return moment(packed[name.replace("user_", "item_")].numbers[1:])
    if name == InputRows.table_name and inputs.ranking is not None:
        solvers = [part.solver for part in inputs.ranking.parts]
        columns = next(
            inputs.ranking.columns(place) for place, one in enumerate(solvers) if isinstance(one, InputRows)
        )
        items = packed[f"{inputs.ranking.dot.prefix}item_factors"].numbers
        return moment(np.ascontiguousarray(items[1:, columns]))
    return None


def _module(arrays: DotArrays | MlpArrays) -> nn.Module:
    """The torch module of these scores."""
    return HiddenMlp(arrays).eval() if isinstance(arrays, MlpArrays) else product_module(arrays)
