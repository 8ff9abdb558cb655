"""Tables of fewer bits: how near they are, and what they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from export.model.packed_table import ROUNDING, PackedTable, pack, rounding
from serve.bundle.packing import Packing

PRECISIONS = ["float16", "int8", "int4"]


def made_up(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    """Rows of very different lengths, columns of very different sizes, an empty row and an empty column."""
    sizes = 10.0 ** rng.uniform(-3, 3, width)
    table = rng.normal(0, sizes, (n, width)) * 10.0 ** rng.uniform(-1, 1, (n, 1))
    table[3] = 0
    table[:, width // 2] = 0
    return table.astype(np.float32)


def obvious(packed: PackedTable) -> np.ndarray:
    """The numbers of a packed table, one by one, in float64."""
    packing = packed.packing
    n, half = len(packed.codes), packing.stored_columns
    numbers = np.empty((n, packing.columns))
    for row in range(n):
        for column in range(packing.columns):
            if packing.precision == "int4":
                byte = int(packed.codes[row, column % half])
                code = (byte % 16 if column < half else byte // 16) - 8
            else:
                code = float(packed.codes[row, column])
            scale = 1.0 if packed.scales is None else float(packed.scales[row, 0])
            numbers[row, column] = code * scale * float(packed.units[column])
    return numbers


@pytest.mark.parametrize("width", [2, 5, 8, 33])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_numbers_are_exact_products_of_codes_scales_and_units(rng, precision, width) -> None:
    table = made_up(rng, 40, width)
    packed = pack(table, precision)
    assert packed.packing == Packing(precision=precision, columns=width)
    assert packed.codes.dtype.name == {"float16": "float16", "int8": "int8", "int4": "uint8"}[precision]
    assert packed.codes.shape == (40, (width + 1) // 2 if precision == "int4" else width)
    np.testing.assert_array_equal(packed.numbers.astype(np.float64), obvious(packed))
    assert (np.log2(packed.units) % 1 == 0).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_are_near_and_what_is_empty_stays_empty(rng, precision) -> None:
    table = made_up(rng, 400, 16)
    moments = np.cov(rng.normal(size=(40, 16)), rowvar=False)
    packed = pack(table, precision, moments)
    assert rounding(packed, table).max() < ROUNDING[precision]
    assert not packed.numbers[3].any()
    assert not packed.numbers[:, 8].any()
    # Another row is further off than any rounding.
    assert np.median(rounding(packed, np.roll(table, 1, axis=0))) > ROUNDING[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_biases_are_float16_whatever_their_size(rng, precision) -> None:
    for size in (1e-20, 1.0, 1e20):
        biases = (size * rng.normal(3, 1, (50, 1))).astype(np.float32)
        packed = pack(biases, precision)
        assert packed.packing == Packing(precision="float16", columns=1)
        np.testing.assert_allclose(packed.numbers, biases, rtol=2**-10)


def test_errors_that_change_no_product_are_preferred(rng) -> None:
    """With the moments of correlated users, scores of 4 bits are nearer than by rounding alone."""
    users = (rng.normal(size=(500, 6)) @ rng.normal(size=(6, 24))).astype(np.float32)
    items = rng.normal(size=(300, 24)).astype(np.float32)

    def error(packed: PackedTable) -> float:
        return float(np.square(users @ (packed.numbers - items).T).mean())

    moments = users.T.astype(np.float64) @ users / len(users)
    assert error(pack(items, "int4", moments)) < 0.3 * error(pack(items, "int4"))


def test_more_bits_are_nearer(rng) -> None:
    table = rng.normal(size=(200, 32)).astype(np.float32)
    mean = [float(rounding(pack(table, precision), table).mean()) for precision in PRECISIONS]
    assert mean[0] < 0.001 < mean[1] < 0.01 < mean[2] < 0.15
