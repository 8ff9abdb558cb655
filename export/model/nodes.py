"""ONNX nodes that models and graphs share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnxscript import GraphBuilder


def table(graph: GraphBuilder, name: str, array: npt.NDArray[Any]) -> ir.Value:
    """An initializer under exactly this name; a second call with the name returns the first value."""
    if name in graph.graph.initializers:
        return graph.graph.initializers[name]
    return graph.initializer(ir.tensor(np.ascontiguousarray(array), name=name), qualify=False)


def to_range(op: Any, logits: ir.Value, y_range: tuple[float, float] | None) -> ir.Value:
    """`low + (high - low) sigmoid(logits)`; the logits themselves where there is no range."""
    if y_range is None:
        return logits
    low, high = y_range
    scores: ir.Value = op.Add(op.Mul(op.Sigmoid(logits), high - low), low)
    return scores
