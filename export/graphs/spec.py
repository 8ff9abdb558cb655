"""What a graph of a bundle is: one frozen record, which export, verification and Triton loop over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt
import onnx_ir as ir

from export.model.arrays import Float64
from export.model.inputs import ExportInputs, Sample

Named = dict[str, npt.NDArray[Any]]

# Of the score span: float32 sums of a hundred products, then a sigmoid's slope of a quarter.
SCORE_TOLERANCE = 1e-5


class Tensor(NamedTuple):
    """An input or output. "K" (the length of a list) and "F" (factors) are baked in, other sizes symbolic."""

    name: str
    dtype: str
    """As numpy names it; "string"; or "id" where it is int64 or string, as the data's ids are."""
    shape: tuple[str, ...]
    optional: bool = False
    """An output that not every model has."""


class Case(NamedTuple):
    """A conformance case: inputs of a graph, and what it must answer."""

    inputs: Named
    outputs: Named


class Comparison(NamedTuple):
    """How far the answers of a graph are off."""

    n: int
    """Rows asked"""
    errors: Float64
    """Absolute differences, infinite where an answer is wrong in another way"""
    tolerance: float
    """The largest error allowed"""
    list_agreement: float | None = None
    """Share of ranks that are right"""
    rmse: tuple[float, float] | None = None
    """RMSE on held-out ratings: torch's, and the graph's"""


class Runner(Protocol):
    """Runs a graph: names to arrays in, names to arrays out."""

    def __call__(self, graph: str, feeds: Mapping[str, npt.NDArray[Any]]) -> Named:
        """Run one graph of the bundle."""


@dataclass(frozen=True)
class GraphSpec:
    """A graph of a bundle. To add one, write a file like its neighbours and name it in `GRAPHS`."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    applies: Callable[[ExportInputs], bool]
    """Whether a bundle of these inputs has this graph."""
    build: Callable[[ExportInputs], ir.Model]
    cases: Callable[[ExportInputs], list[Case]]
    """Conformance cases, outputs by the float64 reference."""
    check: Callable[[Runner, ExportInputs, Sample], Comparison]
    """Compare a runtime's answers with torch, or with float64 where torch has no counterpart."""
    tolerance: Callable[[ExportInputs], dict[str, float]]
    """Float output -> largest absolute difference from the reference."""
    max_batch: int = 256
    """Rows that a server may answer at once: a row costs a whole catalogue of scores."""
    cpu_only: bool = False
    """Whether an operator has no kernel elsewhere."""
