"""What a graph of a bundle is: one frozen record, which export, verification and Triton loop over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.model.arrays import Float64
from export.model.inputs import ExportInputs, Sample
from serve.bundle.conformance import Case

Named = dict[str, npt.NDArray[Any]]
Runner = Callable[[str, Mapping[str, npt.NDArray[Any]]], Named]
"""Runs a graph, by name: names to arrays in, names to arrays out."""

# Share of the score span: float32 sums of a hundred products are rounded, and a sigmoid's slope is a quarter.
SCORE_TOLERANCE = 1e-5


class TensorSpec(NamedTuple):
    """An input or output. "K" (the length of a list) and "F" (factors) are baked in, other sizes symbolic."""

    name: str
    dtype: str
    """A name of numpy; "string"; or "id" for the type of the data's ids, int64 or string."""
    shape: tuple[str, ...]
    optional: bool = False
    """Whether only some models have it."""


class Comparison(NamedTuple):
    """Differences of a graph's answers from the truth."""

    n: int
    """Rows compared"""
    errors: Float64
    """Absolute differences; infinite for any other kind of wrong answer"""
    tolerance: float
    """The largest error allowed"""
    list_agreement: float | None = None
    """Share of ranks that are right"""
    rmse: tuple[float, float] | None = None
    """RMSE on held-out ratings: torch's, and the graph's"""
    mean_error: float | None = None
    """Where `errors` are only the largest of them; None: it is their mean"""


def with_errors(comparison: Comparison, errors: Float64, tolerance: float) -> Comparison:
    """Add errors that have a tolerance of their own: they are scaled to that of the comparison."""
    scaled = errors.ravel() * (comparison.tolerance / tolerance)
    return comparison._replace(errors=np.append(comparison.errors, scaled))


@dataclass(frozen=True)
class GraphSpec:
    """A graph of a bundle. To add one, write a file like its neighbours and name it in `GRAPHS`."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    build: Callable[[ExportInputs], ir.Model]
    cases: Callable[[ExportInputs], list[Case]]
    """Conformance cases, outputs by the float64 reference."""
    check: Callable[[Runner, ExportInputs, Sample], Comparison]
    """Compare a runtime's answers with torch, or with float64 where torch has no counterpart."""
    tolerance: Callable[[ExportInputs], dict[str, float]]
    """Float output -> largest absolute difference from the reference."""
    applies: Callable[[ExportInputs], bool] = lambda inputs: True
    """Whether a bundle of these inputs has this graph."""
    max_batch: int = 256
    """Rows that a server may answer at once. A row of a ranking graph scores the whole catalogue."""
    cpu_only: bool = False
    """Whether an operator has a kernel on the CPU only."""
    top_k: Callable[[ExportInputs], int] = lambda inputs: inputs.top_k
    """K, where outputs have it."""
    items: Callable[[ExportInputs], tuple[int, int]] = lambda inputs: (1, inputs.arrays.n_items + 1)
    """The item indices that answers cover: the first, and one past the last."""
    onnxruntime_only: bool = False
    """Whether ONNX's reference evaluator lacks an operator."""
