"""`conformance.json`: whether a runtime, on this machine and device, answers as the float64 reference does.

A case is inputs of a graph and the outputs of the reference. docs/bundle.md states how answers are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from serve.bundle.bundle import Bundle
from serve.bundle.manifest import Graph
from serve.bundle.manifest_check import signature
from serve.errors import BundleError
from serve.files.names import CONFORMANCE_NAME

FORMAT_VERSION = 1
RELATIVE_TOLERANCE = 1e-6
DTYPES: dict[str, tuple[type, type]] = {
    "int64": (int, np.int64),
    "float32": (float, np.float32),
    "bool": (bool, np.bool_),
    "string": (str, object),
}
"""dtype -> types in JSON and in numpy."""
MAX_CASES = 32
"""Of one graph."""
MAX_ROWS = 64
"""Of one case."""
MAX_VALUES = 1 << 22
"""Of one array."""
MAX_AXES = 3
"""Likewise."""
LISTS = ("top_item_indices", "top_item_ids", "top_titles")

Arrays = dict[str, np.ndarray]
RunGraph = Callable[[Mapping[str, np.ndarray]], Arrays]


class Values(msgspec.Struct, frozen=True):
    """An array as JSON has it."""

    dtype: str
    shape: list[int]
    data: msgspec.Raw
    """A flat list; decoded by `array`, once its length is known."""

    @classmethod
    def of(cls, array: np.ndarray, *, exact: bool) -> Self:
        """From an array of integers, booleans, strings or floats; floats of any width become float32.

        Without `exact`, floats are rounded to seven digits, which hides the last bit of a machine's float64
        sums.
        """
        flat = array.ravel().tolist()
        if array.dtype.kind == "f":
            whole = map(str, array.ravel().astype(np.float32))
            flat = [float(text) for text in (whole if exact else (f"{x:.7g}" for x in flat))]
        dtype = {"f": "float32", "b": "bool", "O": "string"}.get(array.dtype.kind, "int64")
        return cls(dtype, list(array.shape), msgspec.Raw(msgspec.json.encode(flat)))

    def array(self) -> np.ndarray:
        """As an array, strings as objects.

        Raises ValueError: it has too many values, or data, shape and dtype don't fit each other.
        """
        if self.dtype not in DTYPES:
            raise ValueError(f"the dtype {self.dtype!r} is none of {', '.join(DTYPES)}")
        n = math.prod(self.shape)
        if min(self.shape, default=0) < 0 or len(self.shape) > MAX_AXES or n > MAX_VALUES:
            raise ValueError(f"no case has the shape {self.shape[:3]}")
        # As many as the commas between them, and more where strings have some.
        n_commas = bytes(self.data).count(b",")
        if self.dtype != "string" and n_commas + 1 != max(n, 1):
            raise ValueError(f"{n_commas + 1} values do not have the shape {self.shape}")
        kind, numpy_type = DTYPES[self.dtype]
        try:
            values = msgspec.json.decode(self.data, type=list[kind])  # type: ignore[valid-type]
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from None
        with np.errstate(over="ignore"):  # infinity is no right answer
            array: np.ndarray = np.array(values, numpy_type).reshape(self.shape)
        return array


class Case(msgspec.Struct, frozen=True):
    """Inputs of a graph, and the outputs that it must give."""

    inputs: dict[str, Values]
    outputs: dict[str, Values]

    @classmethod
    def of(cls, inputs: Arrays, outputs: Arrays) -> Self:
        """From arrays by name: inputs as they are, to the last bit, and outputs rounded."""
        return cls(
            {name: Values.of(array, exact=True) for name, array in inputs.items()},
            {name: Values.of(array, exact=False) for name, array in outputs.items()},
        )

    def arrays(self) -> tuple[Arrays, Arrays]:
        """Inputs and outputs by name. Raises ValueError: data, shape and dtype don't fit each other."""
        inputs, outputs = (
            {name: values.array() for name, values in side.items()} for side in (self.inputs, self.outputs)
        )
        return inputs, outputs


class Conformance(msgspec.Struct, frozen=True):
    """The whole of `conformance.json`."""

    format_version: int
    graphs: dict[str, list[Case]]


def read_conformance(path: Path) -> Conformance:
    """Read a `conformance.json`. Raises BundleError: other JSON, or an unknown format version."""
    try:
        document = msgspec.json.decode(path.read_bytes(), type=Conformance)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path} holds no conformance cases: {error}. Export the bundle again.") from None
    if document.format_version != FORMAT_VERSION:
        raise BundleError(f"{path}: format version {document.format_version}, not {FORMAT_VERSION}.")
    return document


def write_conformance(path: Path, graphs: dict[str, list[Case]]) -> None:
    """Write a `conformance.json`: the same cases give the same bytes."""
    document = Conformance(FORMAT_VERSION, graphs)
    path.write_bytes(msgspec.json.encode(document, order="sorted") + b"\n")


def check_conformance(bundle: Bundle, name: str, run_graph: RunGraph, *, tolerances: float = 1) -> int:
    """Run every case of a graph; returns the number of cases.

    `tolerances`: by how much the graph's tolerances are multiplied.

    Raises BundleError: the graph has no cases, or too many, or other answers than its cases.
    """
    path = bundle.file(CONFORMANCE_NAME)
    graph, cases = bundle.manifest.graphs[name], read_conformance(path).graphs.get(name, [])
    if not 1 <= len(cases) <= MAX_CASES:
        raise BundleError(
            f"{path} has {len(cases) or 'no'} conformance cases for {name}, not 1 to {MAX_CASES}. Export the "
            f"bundle again."
        )
    allowed = {output: tolerances * tolerance for output, tolerance in graph.tolerance.items()}
    for case in cases:
        try:
            inputs, outputs = case.arrays()
        except (ValueError, OverflowError, RecursionError) as error:
            raise BundleError(f"{path}: a case of {name} can't be read: {error}.") from None
        if wrong := _fault(graph, case, inputs, bundle):
            raise BundleError(f"{path}: in a case of {name}, {wrong}. Export the bundle again.")
        if problem := difference(run_graph(inputs), outputs, allowed):
            raise BundleError(
                f"{bundle.path}: {name} does not answer as its conformance cases say: {problem}. Don't "
                f"serve it here; run `recsys verify`, or export it again."
            )
    return len(cases)


def difference(found: Arrays, expected: Arrays, tolerance: Mapping[str, float]) -> str | None:
    """What is wrong with the outputs of one case, or None.

    Floats may differ by their output's tolerance, items only where expected scores are as good as tied.
    """
    for name, right in expected.items():
        array = found.get(name)
        if array is None or array.shape != right.shape:
            return f"{name} should have the shape {right.shape}, has {None if array is None else array.shape}"
        if right.dtype.kind == "f":
            error = np.abs(array.astype(np.float64) - right)
            # Written so that NaN fails too.
            wrong = ~(error <= tolerance[name] + RELATIVE_TOLERANCE * np.abs(right))
            wrong &= comparable(name, found, expected)
            if wrong.any():
                place = int(np.argmax(wrong))
                return f"{name} is {array.flat[place]:g} instead of {right.flat[place]:g}"
        elif name not in LISTS and (array != right).any():
            place = int(np.argmax(array != right))
            return f"{name} is {array.flat[place]} instead of {right.flat[place]}"
    for name in expected.keys() & set(LISTS):
        moved = found[name] != expected[name]
        wrong = moved & ~as_good_as_tied(expected["top_scores"], 2 * tolerance["top_scores"])
        if wrong.any():
            row, rank = (int(place) for place in np.argwhere(wrong)[0])
            return (
                f"row {row} has item {found[name][row, rank]} instead of {expected[name][row, rank]} "
                f"at rank {rank + 1}"
            )
    return None


def comparable(name: str, found: Arrays, expected: Arrays) -> np.ndarray:
    """Places of a float output to compare, bool of its shape: ratings only of items in the right places."""
    if name == "top_ratings":
        items = next(other for other in LISTS if other in expected)
        if found[items].shape == expected[items].shape:
            same: np.ndarray = found[items] == expected[items]
            return same
    return np.ones(expected[name].shape, bool)


def as_good_as_tied(scores: np.ndarray, within: float) -> np.ndarray:
    """Whether scores (float [B, K], falling) are within a distance of a neighbour's: bool [B, K].

    The last rank always is: its next neighbour is not listed.
    """
    close = np.abs(np.diff(scores, axis=1)) <= within  # [B, K - 1]
    edge = np.ones((len(scores), 1), bool)
    tied: np.ndarray = np.concatenate([close, edge], axis=1) | np.concatenate([~edge, close], axis=1)
    return tied


def _fault(graph: Graph, case: Case, inputs: Arrays, bundle: Bundle) -> str | None:
    """What is wrong with a case, or None. An index out of range is an error on one device, 0 on another."""
    for what, values, tensors in (
        ("inputs", case.inputs, graph.inputs),
        ("outputs", case.outputs, graph.outputs),
    ):
        found = {(name, array.dtype, len(array.shape)) for name, array in values.items()}
        if found != signature(tensors):
            return f"the {what} are not those of the manifest"
    # The inputs of rules, whose first size is R, have one row for all others or as many.
    n_rows = {
        len(inputs[tensor.name])
        for tensor in graph.inputs
        if tensor.shape[0] != "R" or len(inputs[tensor.name]) != 1
    }
    if len(n_rows) != 1:
        return "the inputs differ in their number of rows"
    if not 1 <= max(n_rows) <= MAX_ROWS:
        return f"the inputs have {max(n_rows)} rows, not 1 to {MAX_ROWS}"
    for name, array in inputs.items():
        highest = bundle.manifest.model.n_users if name == "user_index" else bundle.manifest.model.n_items
        if name.endswith(("_index", "_indices")) and ((array < 0) | (array > highest)).any():
            return f"{name} holds an index beyond 0 to {highest}"
    return None
