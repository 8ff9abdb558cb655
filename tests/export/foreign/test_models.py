"""What is refused: models that disagree with their tables, that are not fitted, or of no known package.

docs/bring-your-own.md has the models that are read; `test_page` runs them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender
from sklearn.decomposition import PCA
from surprise import SVD, SVDpp
from torch import nn

import recsys
from export.errors import ParityError, TableError

INPUTS = {"user_inputs": torch.arange(6), "item_inputs": torch.arange(9)}


class Towers(nn.Module):
    """Whose `forward` is not the product of its towers."""

    def __init__(self) -> None:
        super().__init__()
        self.user_tower, self.item_tower = nn.Embedding(6, 3), nn.Embedding(9, 3)

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return -(self.user_tower(users) * self.item_tower(items)).sum(dim=1)


def test_a_model_that_disagrees_with_its_tables_gives_no_bundle(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(ParityError, match=r"recommend on torch.Towers is off by"):
        recsys.bundle_from(Towers(), output=tmp_path / "bundle", **INPUTS)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (PCA(), "sklearn.decomposition._pca.PCA is of no package that is known here .implicit, surprise"),
        (AlternatingLeastSquares(), "AlternatingLeastSquares has no user_factors, item_factors: fit it"),
        (CosineRecommender(), "CosineRecommender has no user_factors"),
        (SVD(), "SVD has no trainset, pu, qi: fit it"),
        (SVDpp(), "SVDpp has no trainset"),
        (nn.Linear(1, 1), "user_inputs and item_inputs missing"),
    ],
)
def test_other_models_are_refused(model: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=message):
        recsys.bundle_from(model, output=tmp_path / "bundle")


def test_towers_are_found_or_given(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="Embedding has no user_tower and item_tower: give them"):
        recsys.bundle_from(nn.Embedding(2, 2), output=tmp_path / "bundle", **INPUTS)
