from __future__ import annotations

from typing import Any

import pytest

from serve.bundle.summary import summary


def metrics(ndcg: Any, rmse: Any, popularity: Any = 0.2, biases: Any = 1.0) -> dict[str, Any]:
    baselines = {"popularity": {"ndcg_at_k": popularity}, "bias_only": {"rmse": biases}}
    return {"ndcg_at_k": ndcg, "rmse": rmse, "n_held_out": 9, "baselines": baselines}


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            metrics(0.396, 0.92),
            "The model ranks 98 % better than popularity, and predicts ratings 8 % better than biases.",
        ),
        (
            metrics(0.1, 1.5),
            "The model ranks 50 % worse than popularity, and predicts ratings 50 % worse than biases.",
        ),
        (
            metrics(0.2, 1.001),
            "The model ranks as well as popularity, and predicts ratings as well as biases.",
        ),
        (metrics(0.4, None), "The model ranks 100 % better than popularity."),
        (metrics(0.4, 0.9, popularity=0.0), "The model predicts ratings 10 % better than biases."),
        (metrics(20.0, None), "The model ranks 9,900 % better than popularity."),
        (
            metrics(0.4, None) | {"new_users": {}},
            "For new users, the model ranks 100 % better than popularity.",
        ),
        ({"n_held_out": 0}, "Nothing was held out of the training, so nothing is measured."),
    ],
)
def test_the_sentence_names_only_what_applies(found: dict[str, Any], sentence: str) -> None:
    assert summary(found) == sentence


@pytest.mark.parametrize("wrong", ["x", [], float("nan"), float("inf"), -1e300])
def test_figures_that_are_none_give_no_sentence(wrong: Any) -> None:
    """A manifest may hold anything."""
    assert summary(metrics(wrong, wrong)) is None
    assert summary(metrics(0.1, 1.0, wrong, wrong)) is None
    assert summary({"baselines": wrong, "ndcg_at_k": 1.0}) is None
    assert summary({}) is None
