"""Tables of items in 8 or 4 bits, for scans that find the items with about the highest scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from export.model.arrays import Float32, row_slices

ZERO = 8
"""The code of 0 in 4 bits, as ONNX Runtime's `MatMulNBits` reads them; codes are 1 to 15."""
LARGEST = 63
"""The largest code in 8 bits. Processors without VNNI add two products with a user's codes in 16 bits, which
hold 2 x 255 x 63 and not 2 x 255 x 127."""


def int8_columns(*tables: Float32 | None, n: int) -> tuple[npt.NDArray[np.int8], Float32]:
    """Round tables that lie side by side (float32 [rows, …] each, or None); a column's largest is `LARGEST`.

    Returns:
        Codes int8 [columns, n], transposed, with zeros from the tables' end to `n`; and the steps, float32
        [1, columns]. An entry is about its code times its column's step.
    """
    given = [one for one in tables if one is not None]
    largest = np.concatenate([np.maximum(one.max(axis=0), -one.min(axis=0)) for one in given])
    steps = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(LARGEST)
    codes = np.zeros((len(steps), n), np.int8)
    for rows in row_slices(len(given[0])):
        entries = np.concatenate([one[rows] for one in given], axis=1) / steps
        codes[:, rows] = np.clip(np.rint(entries), -LARGEST, LARGEST).T
    return codes, steps[None]


def block_size(n_factors: int) -> int:
    """Columns that share a scale: a power of 2 from 16, where it covers the row, to 64."""
    return min(64, max(16, 1 << (n_factors - 1).bit_length()))


def int4_rows(factors: Float32, n: int) -> tuple[npt.NDArray[np.uint8], Float32]:
    """Round each block of a row to 4 bits; a block's largest absolute entry is 7 times its scale.

    `n` is the number of rows, zeros past those of `factors`.

    Returns:
        Codes uint8 [n, blocks, block / 2], two in a byte, the first in the low half; and scales float32
        [n, blocks]. An entry is about (code - 8) times its block's scale.
    """
    n_factors = factors.shape[1]
    block = block_size(n_factors)
    n_blocks = -(-n_factors // block)
    codes = np.full((n, n_blocks, block // 2), ZERO | ZERO << 4, np.uint8)
    scales = np.ones((n, n_blocks), np.float32)
    for rows in row_slices(len(factors)):  # copies of the whole table would be several times its size
        padded = np.pad(factors[rows], [(0, 0), (0, n_blocks * block - n_factors)])
        entries = padded.reshape(-1, n_blocks, block)
        largest = np.abs(entries).max(axis=2)
        scales[rows] = np.where(largest > 0, largest, 1) / np.float32(7)
        rounded = np.clip(np.rint(entries / scales[rows][:, :, None]), -7, 7).astype(np.int8)
        code = (rounded + ZERO).astype(np.uint8)
        codes[rows] = code[:, :, 0::2] | code[:, :, 1::2] << 4
    return codes, scales
