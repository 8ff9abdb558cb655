"""Tables with 4 bits for each number, as ONNX Runtime's `MatMulNBits` reads them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from export.model.arrays import Float32

ZERO = 8
"""The code of 0; codes are 1 to 15."""


def block_size(n_factors: int) -> int:
    """Columns that share a scale: a power of 2 from 16, where it covers the row, to 64."""
    return min(64, max(16, 1 << (n_factors - 1).bit_length()))


def int4_rows(factors: Float32) -> tuple[npt.NDArray[np.uint8], Float32]:
    """Round each block of a row to 4 bits; a block's largest absolute entry is 7 times its scale.

    Returns:
        Codes uint8 [n, blocks, block / 2], two in a byte, the first in the low half; and scales float32
        [n, blocks]. An entry is about (code - 8) times its block's scale.
    """
    n, n_factors = factors.shape
    block = block_size(n_factors)
    n_blocks = -(-n_factors // block)
    codes = np.empty((n, n_blocks, block // 2), np.uint8)
    scales = np.empty((n, n_blocks), np.float32)
    for start in range(0, n, 1 << 16):  # copies of the whole table would be several times its size
        rows = slice(start, start + (1 << 16))
        padded = np.pad(factors[rows], [(0, 0), (0, n_blocks * block - n_factors)])
        entries = padded.reshape(-1, n_blocks, block)
        largest = np.abs(entries).max(axis=2)
        scales[rows] = np.where(largest > 0, largest, 1) / np.float32(7)
        rounded = np.clip(np.rint(entries / scales[rows][:, :, None]), -7, 7).astype(np.int8)
        code = (rounded + ZERO).astype(np.uint8)
        codes[rows] = code[:, :, 0::2] | code[:, :, 1::2] << 4
    return codes, scales
