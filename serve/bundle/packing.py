"""Tables with fewer bits than float32: the names of their tensors, and the numbers that they stand for.

A table NAME of `export --precision` keeps its name, holds codes, and stands for

    float32 of the codes x NAME_row_scales (float16, one a row) x NAME_units (float32, one a column)

Units are powers of 2, so that no product is rounded: every runtime finds the same numbers.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt

Precision = Literal["float32", "float16", "int8", "int4"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
FLAGS: dict[str, Precision] = {"fp32": "float32", "fp16": "float16", "int8": "int8", "int4": "int4"}
"""As the command line names them."""
SCALES, UNITS = "_row_scales", "_units"
"""Ends of the names of the tensors beside the codes."""
ZERO = 8
"""The code of 0 in 4 bits; codes are 0 to 15."""
STORED = {"float16": "float16", "int8": "int8", "int4": "uint8"}
"""Precision -> type of the codes. Two codes of 4 bits share a byte; float16 has no row scales."""


class Packing(msgspec.Struct, frozen=True, kw_only=True):
    """How a table is packed."""

    precision: Precision
    columns: int
    """Numbers in a row. Of int4, a byte holds one of the first half in its low bits, and the one half a row
    further on in its high bits; the last code of an odd row counts for nothing."""

    @property
    def stored_columns(self) -> int:
        """Codes, or bytes of two codes, in a row."""
        return -(-self.columns // 2) if self.precision == "int4" else self.columns


class Compression(msgspec.Struct, frozen=True, kw_only=True):
    """What packed tables cost, beside the run's own model in float32."""

    precision: Precision
    bytes: int
    """Of all tables, each once."""
    float32_bytes: int
    """Of the same tables in float32."""
    k: int
    """Length of the lists."""
    list_overlap: float
    """Share of the items of float32's lists that are listed, too."""
    n_users: int
    """Users whose lists were compared."""
    rmse: float | None
    """On the held-out ratings; None: nothing was held out, or nothing predicts ratings."""
    float32_rmse: float | None
    ndcg: float | None
    """nDCG@k likewise; None: nothing was held out."""
    float32_ndcg: float | None


def unpack(
    codes: npt.NDArray[Any],
    scales: npt.NDArray[np.float16] | None,
    units: npt.NDArray[np.float32],
    packing: Packing,
) -> npt.NDArray[np.float32]:
    """The numbers of a table: float32 [n, columns].

    Args:
        codes: [n, stored columns], float16, int8, or uint8 of two codes.
        scales: float16 [n, 1]; None of float16.
        units: float32 [columns].
        packing: how the table is packed.
    """
    if packing.precision == "int4":
        codes = np.concatenate([codes & 15, codes >> 4], axis=1)[:, : packing.columns].astype(np.int8) - ZERO
    numbers = codes.astype(np.float32)
    if scales is not None:
        numbers *= scales
    numbers *= units
    return numbers
