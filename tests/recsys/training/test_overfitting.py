from __future__ import annotations

import pytest

from recsys.training.overfitting import overfitting_hint
from recsys.training.run_info import Iteration, TrainingConfig

CONFIG = TrainingConfig(weight_decay=0.1)


def history(metric: str, *values: float) -> list[Iteration]:
    return [Iteration(number=n, metrics={metric: value}, seconds=1) for n, value in enumerate(values, 1)]


def test_the_best_epoch_and_the_remedies_are_named() -> None:
    hint = overfitting_hint(history("valid_rmse", 1.0, 0.9, 0.88, 0.89, 0.91), CONFIG)
    assert hint is not None
    assert hint.startswith("best at epoch 3 of 5: RMSE 0.8800, at the end 0.9100. ")
    assert hint.endswith("--epochs 3, or more than --weight-decay 0.1")
    ranks = overfitting_hint(history("valid_ndcg_at_10", 0.3, 0.4, 0.35), CONFIG)
    assert ranks is not None
    assert ranks.startswith("best at epoch 2 of 3: nDCG@10 0.4000, at the end 0.3500")


@pytest.mark.parametrize(
    ("metric", "values"),
    [
        ("valid_rmse", [1.0, 0.9, 0.88]),
        ("valid_rmse", [1.0, 0.88, 0.8802]),
        ("valid_rmse", [0.9]),
        ("valid_rmse", []),
        ("valid_ndcg_at_10", [0.3, 0.4]),
        ("train_loss", [0.3, 0.4]),
    ],
)
def test_otherwise_nothing_is_said(metric: str, values: list[float]) -> None:
    assert overfitting_hint(history(metric, *values), CONFIG) is None
