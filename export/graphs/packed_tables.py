"""Packed tables in place of float32 ones: one change of any graph, so that no graph knows of it.

Nodes compute the numbers of `serve.bundle.packing`: of the rows that are asked, where a graph gathers some,
else of the whole table. Codes of 4 bits are taken apart in float32, exactly: shifts and bitwise operators
have no kernel on CUDA and in browsers' GPUs. Float16 becomes float32 before rows are taken, as not every GPU
in a browser reads it: a runtime does that once, when it opens the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from export.model.packed_table import PackedTable
from serve.bundle.packing import SCALES, UNITS, ZERO

# Operators that take rows of a table: each takes the same rows of codes and scales.
ROWS = {"Gather", "Slice"}


def with_packed_tables(model: ir.Model, packed: Mapping[str, PackedTable]) -> ir.Model:
    """Replace the tables of a graph that are packed, in place.

    `packed` has them by name; the graph's initializers must be the numbers that they stand for.
    """
    graph = model.graph
    for name, table in packed.items():
        if (value := graph.initializers.pop(name, None)) is not None:
            _Replacement(graph, name, table).replace(value)
    graph.sort()
    return model


class _Replacement:
    """A table of a graph that is being replaced."""

    def __init__(self, graph: ir.Graph, name: str, table: PackedTable) -> None:
        self._graph, self._name, self._table = graph, name, table
        self._n_nodes = 0
        self._codes = self._initializer(name, table.codes)
        self._units = self._initializer(name + UNITS, table.units)
        self._scales: ir.Value | None = None
        if table.scales is None:
            self._codes = self._node("Cast", [self._codes], to=ir.DataType.FLOAT)
        else:
            scales = self._initializer(name + SCALES, table.scales)
            self._scales = self._node("Cast", [scales], to=ir.DataType.FLOAT)

    def replace(self, value: ir.Value) -> None:
        """Give every node that reads the table the numbers instead."""
        whole: ir.Value | None = None
        for node, place in value.uses():
            if node.op_type in ROWS and place == 0 and _of_rows(node):
                self._of_rows(node)
                continue
            whole = self._numbers(self._codes, self._scales) if whole is None else whole
            node.replace_input_with(place, whole)

    def _of_rows(self, node: ir.Node) -> None:
        """Take rows of codes and scales by the node's operator, in place of rows of the table."""
        parts = [
            None if part is None else self._node(node.op_type, [part, *node.inputs[1:]], **_axis(node))
            for part in (self._codes, self._scales)
        ]
        assert parts[0] is not None
        numbers = self._numbers(parts[0], parts[1])
        rows = node.outputs[0]
        numbers.type, numbers.shape = rows.type, rows.shape
        rows.replace_all_uses_with(numbers, replace_graph_outputs=True)
        self._graph.remove(node, safe=True)
        numbers.name = rows.name

    def _numbers(self, codes: ir.Value, scales: ir.Value | None) -> ir.Value:
        """The numbers of codes [..., stored columns] and scales float32 [..., 1]; None: codes are float32."""
        if scales is None:
            return self._node("Mul", [codes, self._units])
        numbers = self._node("Cast", [codes], to=ir.DataType.FLOAT)
        packing = self._table.packing
        if packing.precision == "int4":
            high = self._node("Floor", [self._node("Mul", [numbers, self._constant(1 / 16)])])
            low = self._node("Sub", [numbers, self._node("Mul", [high, self._constant(16)])])
            numbers = self._node("Concat", [low, high], axis=-1)
            if packing.columns % 2:
                bounds = [self._constants(np.array([n])) for n in (0, packing.columns, -1)]
                numbers = self._node("Slice", [numbers, *bounds])
            numbers = self._node("Sub", [numbers, self._constant(ZERO)])
        return self._node("Mul", [self._node("Mul", [numbers, scales]), self._units])

    def _node(self, kind: str, inputs: Sequence[ir.Value | None], **attributes: int) -> ir.Value:
        self._n_nodes += 1
        node = ir.node(kind, inputs, attributes, name=f"{self._name}_{kind}_{self._n_nodes}")
        node.outputs[0].name = f"{self._name}_numbers_{self._n_nodes}"
        self._graph.append(node)
        return node.outputs[0]

    def _constant(self, number: float) -> ir.Value:
        return self._constants(np.float32(number))

    def _constants(self, numbers: np.ndarray | np.float32) -> ir.Value:
        name = f"const_{'_'.join(map(str, np.ravel(numbers).tolist()))}_{np.asarray(numbers).dtype.name}"
        return self._initializer(name, np.asarray(numbers))

    def _initializer(self, name: str, array: np.ndarray) -> ir.Value:
        if name in self._graph.initializers:
            return self._graph.initializers[name]
        tensor = ir.tensor(np.asarray(array, order="C"), name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
        value.const_value = tensor
        self._graph.register_initializer(value)
        return value


def _axis(node: ir.Node) -> dict[str, int]:
    return {"axis": 0} if node.op_type == "Gather" else {}


def _of_rows(node: ir.Node) -> bool:
    """Whether a Gather or Slice takes whole rows."""
    if node.op_type == "Gather":
        axis = node.attributes.get("axis")
        return axis is None or axis.as_int() == 0
    axes = node.inputs[3] if len(node.inputs) > 3 else None
    found = None if axes is None or axes.const_value is None else axes.const_value.numpy()
    return found is not None and found.tolist() == [0]
