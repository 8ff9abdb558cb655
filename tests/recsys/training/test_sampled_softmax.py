"""The sampled softmax against the softmax over all items, and parts that are trained to rank."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from recsys.data.interactions import Interactions
from recsys.errors import ConfigError
from recsys.evaluation.ranking import RatedItems
from recsys.models.scoring import ranker
from recsys.training.checkpoint import Run, load_run
from recsys.training.evaluate_run import evaluate_run
from recsys.training.sampled_softmax import Candidates, sampled_softmax
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train

N_ITEMS = 12


def test_the_sampled_gradient_is_on_average_that_of_the_softmax_over_all_items() -> None:
    """Gradients of scores, averaged over many draws of candidates, for items of unequal popularity."""
    rng = np.random.default_rng(0)
    popularity = np.arange(1, N_ITEMS + 1) / np.arange(1, N_ITEMS + 1).sum()
    rated = torch.from_numpy(1 + rng.choice(N_ITEMS, 600 * 63, p=popularity))
    scores = torch.from_numpy(rng.normal(size=N_ITEMS + 1)).requires_grad_()
    candidates = Candidates.of(rated, N_ITEMS, seed=1)
    total = torch.zeros(())
    for others in rated.view(600, 63):
        items, log_expected = candidates.draw(torch.cat([torch.tensor([3]), others]))
        places = torch.zeros(1, dtype=torch.int64)
        total = total + sampled_softmax(scores[items][None], log_expected, places)
    (sampled,) = torch.autograd.grad(total / 600, scores)
    exact = torch.autograd.grad(cross_entropy(scores[1:][None], torch.tensor([2])), scores)[0]
    # 320 candidates estimate the sum over 12 items, of 600 steps.
    np.testing.assert_allclose(sampled, exact, atol=0.01)


@pytest.fixture(scope="module")
def likes(checkerboard: Interactions) -> Interactions:
    """The checkerboard without what its users don't like."""
    liked = checkerboard.ratings == 5
    columns = ("user_index", "item_index", "ratings")
    kept = {name: getattr(checkerboard, name)[liked] for name in columns}
    return replace(checkerboard, timestamps=None, **kept)


def train_to_rank(likes: Interactions, kind: str, output: Path, **options: object) -> Run:
    asked = {"objective": "ranking", "epochs": 12, "batch_size": 32, "factors": 8, "learning_rate": 0.02}
    return train(likes, new_settings(kind, asked | options), output, machine=Machine("cpu", "off"))


@pytest.mark.parametrize("kind", ["dot", "dot-bias", "mlp"])
def test_users_find_the_rest_of_what_they_like_first(likes: Interactions, kind: str, tmp_path: Path) -> None:
    run = load_run(train_to_rank(likes, kind, tmp_path / "run").path)
    assert run.info.metrics["ndcg_at_10"] > 0.9
    assert "train_softmax_loss" in run.info.part.history[-1].metrics
    assert run.info.part.config["y_range"] is None
    data, split = run.interactions(), run.split()
    users = np.unique(data.user_index[split.valid]).astype(np.int64)
    seen = RatedItems.of(data.user_index[split.train], data.item_index[split.train], data.n_users)
    lists = ranker(run.ranking_model(), data.n_items)(users, seen.padded(users), 1)
    assert np.mean((lists[:, 0] + users) % 2 == 0) == 1.0
    assert evaluate_run(run, device="cpu")["ndcg_at_k"] == pytest.approx(run.info.metrics["ndcg_at_10"])


def test_the_same_seed_gives_the_same_weights_resumed_or_not(likes: Interactions, tmp_path: Path) -> None:
    whole = train_to_rank(likes, "dot-bias", tmp_path / "whole", epochs=3)
    again = train_to_rank(likes, "dot-bias", tmp_path / "again", epochs=3)
    for name, table in load_run(whole.path).part.model().state_dict().items():
        assert torch.equal(table, load_run(again.path).part.model().state_dict()[name])


def test_the_objective_goes_to_the_parts_that_have_it() -> None:
    parts = new_settings(["bayes", "dot:0.5", "ease"], {"objective": "ranking"}).parts
    assert [(part.kind, part.objective, part.weight) for part in parts] == [
        ("bayes", "ratings", 1.0),
        ("dot", "ranking", 0.5),
        ("ease", "ranking", 1.0),
    ]
    assert new_settings("dot-bias", {}).parts[0].objective == "ratings"


@pytest.mark.parametrize(
    ("models", "asked", "message"),
    [
        ("bayes", {"objective": "ranking"}, "bayes can't be trained for ranking"),
        ("ease", {"objective": "ratings"}, "ease can't be trained for ratings"),
        ("dot", {"objective": "ranking", "y_range": (0.0, 5.0)}, "a dot that ranks has no y-range"),
        ("dot:0.5", {}, "only parts that rank have a weight"),
        (["bayes", "mlp"], {"objective": "ranking"}, "as a part that ranks it stands alone"),
    ],
)
def test_an_objective_that_does_not_fit_is_refused(models, asked, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        new_settings(models, asked)
