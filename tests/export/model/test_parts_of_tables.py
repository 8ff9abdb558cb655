"""What is computed a part of a table at a time, against the same of the whole table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.graphs.similar_items import _turn
from export.model import arrays, reference, ridge
from export.model.arrays import row_slices
from export.model.dot import DotArrays
from export.model.reference import MASKED
from export.model.similar_items import directions, similar_rows
from recsys.models.modules import DotProduct


@pytest.fixture
def dot() -> DotArrays:
    rng = np.random.default_rng(0)
    shapes = [(41, 5), (53, 5), (41, 1), (53, 1)]
    return DotArrays(*(rng.normal(size=shape).astype(np.float32) for shape in shapes), y_range=None)


def test_rows_come_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "ROWS_AT_ONCE", 7)
    rows = np.concatenate([np.arange(23)[part] for part in row_slices(23)])
    np.testing.assert_array_equal(rows, np.arange(23))
    assert len(list(row_slices(23))) == 4


def test_parts_give_what_the_whole_gives(dot: DotArrays, monkeypatch: pytest.MonkeyPatch) -> None:
    def results() -> list[np.ndarray]:
        rows = similar_rows(dot)
        return [
            dot.scores64(np.arange(41)),
            dot.ridge_of(2.0, 30),
            ridge.gram(dot.item_factors, ones=True),
            rows,
            directions(rows),
            reference.cosines(rows, np.array([3, 0, 50])),
        ]

    whole = results()
    monkeypatch.setattr(arrays, "ROWS_AT_ONCE", 7)
    del dot.__dict__["_squared_lengths"]
    for found, wanted in zip(results(), whole, strict=True):
        # Sums in another order, and a rounding to float32.
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_torch_has_the_same_cosines(dot: DotArrays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "ROWS_AT_ONCE", 7)
    module = DotProduct(40, 52, 5, biases="none")
    module.load_state_dict(
        {name: torch.from_numpy(getattr(dot, name)) for name in ("user_factors", "item_factors")}
    )
    rows = torch.from_numpy(dot.item_factors).double() @ _turn(module, list(row_slices(53)))
    unit = torch.nn.functional.normalize(rows).numpy()
    np.testing.assert_allclose(unit @ unit.T, reference.cosines(similar_rows(dot), np.arange(53)), atol=1e-5)


@pytest.mark.parametrize("k", [1, 4, 29, 30])
def test_the_best_of_a_partition_are_those_of_a_full_sort(k: int) -> None:
    rng = np.random.default_rng(k)
    scores = rng.integers(0, 6, (20, 30)).astype(float)  # many ties
    scores[0, 5:] = np.nan
    exclude = rng.integers(0, 30, (20, 6))
    indices, best = reference.top_k(scores, exclude, k)
    for row in range(20):
        left = [i for i in range(1, 30) if i not in exclude[row] and np.isfinite(scores[row, i])]
        order = sorted(left, key=lambda i: (-scores[row, i], i))[:k]
        assert indices[row].tolist() == order + [0] * (k - len(order))
        assert best[row].tolist() == [scores[row, i] for i in order] + [MASKED] * (k - len(order))
