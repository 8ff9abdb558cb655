"""Tables of a model with fewer bits: rounded to float16, 8 or 4 bits, by row-wise scales.

Rounding errors matter as far as they change scores. So the moments of what a row is multiplied by decide: the
scale of a row is the one with the least weighted error, and the error of each column is made up for by those
after it (Frantar et al., GPTQ, 2022: rows of a layer's weights, where the moments are those of its inputs).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from export.model.arrays import Float32, Float64, Int64, row_slices
from serve.bundle.packing import STORED, ZERO, Packing, Precision, unpack

# Lowest and highest code; and what the largest entry of a row may be in codes: with more than the lowest, it
# is cut off, and all others have smaller errors.
CODES = {"int8": (-128, 127), "int4": (-8, 7)}
LARGEST_IN_CODES = {"int8": (127.0,), "int4": tuple(np.arange(7.0, 13.5, 0.5).tolist())}
# Added to the moments, as a share of their mean: columns that no user uses have none.
DAMPING = 0.01
# How far a row of a packed table may be from the model's, as a share of the row's length, both in units. Far
# above what rounding does, far below what another row is off by.
ROUNDING = {"float16": 2.0**-10, "int8": 0.1, "int4": 0.7}
# A row shorter than this, in units, is compared as if it had this length: its scale may be 0 in float16.
SHORTEST = 1e-3


@dataclass(frozen=True, eq=False)
class PackedTable:
    """A packed table, as `serve.bundle.packing` defines it."""

    codes: npt.NDArray[Any]
    """[n, stored columns]"""
    scales: npt.NDArray[np.float16] | None
    """[n, 1]; None of float16"""
    units: Float32
    """[columns]"""
    packing: Packing

    @cached_property
    def numbers(self) -> Float32:
        """What it stands for: float32 [n, columns]."""
        return unpack(self.codes, self.scales, self.units, self.packing)

    def of_rows(self, rows: Int64) -> PackedTable:
        """The table of these rows, int64 [n]."""
        scales = None if self.scales is None else self.scales[rows]
        return PackedTable(self.codes[rows], scales, self.units, self.packing)


def pack(table: Float32, precision: Precision, moments: Float64 | None = None) -> PackedTable:
    """Pack a table.

    Args:
        table: float32 [n, F]; of one column (biases), it becomes float16 whatever the precision.
        precision: not "float32".
        moments: float64 [F, F], the mean outer product of the rows that its rows are multiplied by; None:
            every column counts alike.
    """
    n, width = table.shape
    units = _units(table)
    if width == 1 or precision == "float16":
        halves = (table / units).astype(np.float16)
        return PackedTable(halves, None, units, Packing(precision="float16", columns=width))
    scaled = np.eye(width) if moments is None else moments * units * units[:, None].astype(np.float64)
    empty = ~table.any(axis=0)  # stays so: it makes up for nothing
    scaled[empty] = scaled[:, empty] = 0
    scaled = scaled + DAMPING * (float(np.trace(scaled)) / width or 1.0) * np.eye(width)
    packing = Packing(precision=precision, columns=width)
    codes = np.empty((n, packing.stored_columns), STORED[precision])
    scales = np.empty((n, 1), np.float16)
    for part in row_slices(n):
        rows = table[part] / units
        scales[part] = _scales(rows, precision, np.diag(scaled).astype(np.float32))
        found = _codes(rows, scales[part].astype(np.float32), precision, scaled)
        codes[part] = _bytes(found) if precision == "int4" else found
    return PackedTable(codes, scales, units, packing)


def rounding(packed: PackedTable, table: Float32) -> Float64:
    """How far each row is from a table's: the length of the difference over that of the row, float64 [n]."""
    found = np.empty(len(table))
    for part in row_slices(len(table)):
        rows = table[part].astype(np.float64) / packed.units
        wrong = np.linalg.norm(packed.numbers[part] / packed.units - rows, axis=1)
        found[part] = wrong / np.maximum(np.linalg.norm(rows, axis=1), SHORTEST)
    return found


def _units(table: Float32) -> Float32:
    """Powers of 2 near the root mean squares of the columns: a row then has one scale."""
    squares = sum(np.square(table[part], dtype=np.float64).sum(axis=0) for part in row_slices(len(table)))
    sizes = np.sqrt(np.asarray(squares) / len(table))
    powers = np.round(np.log2(np.where(sizes > 0, sizes, 1.0)))
    units: Float32 = np.exp2(np.clip(powers, -100, 100)).astype(np.float32)
    return units


def _scales(rows: Float32, precision: Precision, weights: Float32) -> npt.NDArray[np.float16]:
    """The scale of each row with the least weighted error: [n, F], weights [F] -> [n, 1]; never 0."""
    lowest, highest = CODES[precision]
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1, keepdims=True), axis=1)
    best = np.ones_like(largest, np.float16)
    least = np.full_like(largest, np.inf)
    for steps in LARGEST_IN_CODES[precision]:
        # There is one more negative code, so the sign counts.
        for sign in (-1.0, 1.0):
            half = (largest / np.float32(sign * steps)).astype(np.float16)
            half[half == 0] = 1
            scale = half.astype(np.float32)
            rounded = np.clip(np.rint(rows / scale), lowest, highest) * scale
            error = (np.square(rounded - rows) @ weights)[:, None]
            better = error < least
            least[better], best[better] = error[better], half[better]
    return best


def _codes(rows: Float32, scales: Float32, precision: Precision, moments: Float64) -> npt.NDArray[np.int8]:
    """The codes of rows, [n, F], one column after the other, the one that counts most first."""
    lowest, highest = CODES[precision]
    order = np.argsort(-np.diag(moments), kind="stable")
    upper = np.linalg.cholesky(np.linalg.inv(moments[np.ix_(order, order)])).T.astype(np.float32)
    left = rows.T[order]  # [F, n]
    codes = np.empty(rows.shape, np.int8)
    for place, column in enumerate(order):
        code = np.clip(np.rint(left[place] / scales[:, 0]), lowest, highest)
        codes[:, column] = code
        error = (left[place] - code * scales[:, 0]) / upper[place, place]
        left[place + 1 :] -= upper[place, place + 1 :, None] * error
    return codes


def _bytes(codes: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Codes of 4 bits [n, F], two in a byte: uint8 [n, F / 2]."""
    padded = np.pad(codes, [(0, 0), (0, codes.shape[1] % 2)])
    low, high = np.split((padded + ZERO).astype(np.uint8), 2, axis=1)
    return np.bitwise_or(low, np.left_shift(high, np.uint8(4)), dtype=np.uint8)
