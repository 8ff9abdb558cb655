"""A graph with packed tables: the numbers of the tables, to the bit, and so the answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from export.graphs.build import begin, finish
from export.graphs.packed_tables import with_packed_tables
from export.graphs.recommend import recommend_graph
from export.graphs.spec import TensorSpec
from export.model.arrays import Arrays, table
from export.model.dot import DotArrays
from export.model.mlp import MlpArrays
from export.model.packed_table import PackedTable, pack
from serve.bundle.packing import SCALES, UNITS

OPERATORS = {"Cast", "Mul", "Floor", "Sub", "Concat", "Slice", "Gather", "Identity"}


def graph_of(numbers: np.ndarray) -> ir.Model:
    """All uses of a table: rows by index, a piece of it, the whole."""
    graph, (index,) = begin("uses", (TensorSpec("index", "int64", ("B", "H")),))
    op = graph.op
    value = table(graph, "numbers", numbers)
    outputs = {
        "rows": op.Gather(value, index),
        "piece": op.Slice(value, [2], [5], [0]),
        "columns": op.Slice(value, [1], [2], [1]),
        "whole": op.Identity(value),
    }
    shapes = {"rows": ("B", "H", "F"), "piece": ("P", "F"), "columns": ("N", "C"), "whole": ("N", "F")}
    specs = [TensorSpec(name, "float32", shape) for name, shape in shapes.items()]
    return finish(graph, specs, outputs, {"F": numbers.shape[1], "N": len(numbers), "P": 3, "C": 1})


@pytest.mark.parametrize("width", [2, 7, 8])
@pytest.mark.parametrize("precision", ["float16", "int8", "int4"])
def test_every_use_of_a_table_finds_its_numbers(rng, run_model, precision, width) -> None:
    packed = pack(rng.normal(size=(12, width)).astype(np.float32), precision)
    model = with_packed_tables(graph_of(packed.numbers), {"numbers": packed, "other": packed})
    held = {name: value.const_value for name, value in model.graph.initializers.items()}
    assert held["numbers"].numpy().dtype == packed.codes.dtype
    np.testing.assert_array_equal(held["numbers" + UNITS].numpy(), packed.units)
    assert ("numbers" + SCALES in held) == (precision != "float16")
    assert not [
        one for one in held.values() if one.numpy().shape == packed.numbers.shape != packed.codes.shape
    ]
    assert {node.op_type for node in model.graph} <= OPERATORS
    assert {node.domain for node in model.graph} == {""}
    index = rng.integers(0, 12, (2, 3))
    wanted = {
        "rows": packed.numbers[index],
        "piece": packed.numbers[2:5],
        "columns": packed.numbers[:, 1:2],
        "whole": packed.numbers,
    }
    found = run_model(model, {"index": index})
    evaluator = ReferenceEvaluator(ir.to_proto(model))
    by_reference = dict(zip(wanted, evaluator.run(list(wanted), {"index": index}), strict=True))
    for name, numbers in wanted.items():
        np.testing.assert_array_equal(found[name], numbers)
        np.testing.assert_array_equal(by_reference[name], numbers)


def rounded(arrays: Arrays, precision) -> tuple[Arrays, dict[str, PackedTable]]:
    names = ("user_factors", "item_factors", "user_biases", "item_biases")
    if isinstance(arrays, MlpArrays):
        names = ("user_hidden", "item_hidden")
    found = {name: getattr(arrays, name) for name in names}
    packed = {name: pack(one, precision) for name, one in found.items() if one is not None}
    return replace(arrays, **{name: one.numbers for name, one in packed.items()}), packed


def test_lists_are_those_of_the_rounded_model(arrays, run_model) -> None:
    model, packed = rounded(arrays, "int4")
    assert isinstance(model, DotArrays | MlpArrays)
    feeds = {"user_index": np.arange(4), "exclude_item_indices": np.array([[1, 2], [3, 0], [0, 0], [5, 6]])}
    whole = run_model(recommend_graph(model, 10), feeds)
    found = run_model(with_packed_tables(recommend_graph(model, 10), packed), feeds)
    np.testing.assert_array_equal(found["top_item_indices"], whole["top_item_indices"])
    np.testing.assert_allclose(found["top_scores"], whole["top_scores"], rtol=1e-6)


def test_a_graph_without_packed_tables_is_not_changed(rng, run_model) -> None:
    numbers = rng.normal(size=(12, 4)).astype(np.float32)
    before = ir.to_proto(graph_of(numbers)).SerializeToString(deterministic=True)
    model = with_packed_tables(graph_of(numbers), {})
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
