"""The contract of all kinds of model, and the properties of each kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from recsys.errors import ConfigError
from recsys.models import KINDS, DotBiasConfig, DotConfig, MlpConfig, build, config_from_dict
from recsys.models.mlp import embedding_width
from recsys.models.modules import DotProduct
from recsys.models.scoring import item_scorer, ranker
from recsys.models.y_range import resolve

N_USERS, N_ITEMS = 7, 5


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make(kind: str, **settings: object) -> nn.Module:
    torch.manual_seed(0)
    config = resolve(config_from_dict(kind, settings), (1.0, 5.0))
    return build(kind, config, N_USERS, N_ITEMS).eval()


def all_pairs() -> tuple[torch.Tensor, torch.Tensor]:
    return (
        torch.arange(N_USERS + 1).repeat_interleave(N_ITEMS + 1),
        torch.arange(N_ITEMS + 1).repeat(N_USERS + 1),
    )


def test_a_batch_equals_single_pairs(kind: str) -> None:
    model, (users, items) = make(kind), all_pairs()
    singles = torch.cat([model(users[i : i + 1], items[i : i + 1]) for i in range(len(users))])
    # Sums of a few dozen float32 terms, in another order: some units in the last place.
    torch.testing.assert_close(model(users, items), singles, rtol=1e-6, atol=1e-6)
    assert singles.dtype == torch.float32
    assert singles.shape == ((N_USERS + 1) * (N_ITEMS + 1),)


@pytest.mark.parametrize(
    "settings",
    [{}, {"hidden_layers": (4, 3), "batch_norm": True, "dropout": 0.5}, {"hidden_layers": ()}],
    ids=str,
)
def test_the_whole_catalogue_scores_as_its_pairs(kind: str, settings: dict[str, object]) -> None:
    model = make(kind, **(settings if kind == "mlp" else {}))
    with torch.no_grad():
        for table in model.parameters():
            table.normal_()
        pairs = model(*all_pairs()).reshape(N_USERS + 1, N_ITEMS + 1)
        at_once = item_scorer(model, N_ITEMS)(torch.arange(N_USERS + 1))
    torch.testing.assert_close(at_once, pairs, rtol=1e-5, atol=1e-5)


def test_a_module_of_the_contract_alone_is_ranked_by_its_pairs(kind: str) -> None:
    class Contract(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, user_index: torch.Tensor, item_index: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.model(user_index, item_index)
            return scores

    users, seen = np.arange(N_USERS + 1), np.tile([2, 0], (N_USERS + 1, 1))
    lists = ranker(Contract(make(kind)), N_ITEMS)(users, seen, N_ITEMS + 2)
    np.testing.assert_array_equal(lists, ranker(make(kind), N_ITEMS)(users, seen, N_ITEMS + 2))
    np.testing.assert_array_equal(np.sort(lists)[0], [0, 0, 0, 1, 3, 4, 5])


@pytest.mark.parametrize("kind", ["dot", "dot-bias", "mlp"])
def test_a_range_bounds_the_scores(kind: str) -> None:
    model = make(kind, y_range=(2.0, 3.0))
    with torch.no_grad():
        model.user_factors.mul_(1e4)
    scores = model(*all_pairs()).detach()
    assert float(scores.min()) >= 2
    assert float(scores.max()) <= 3


def test_the_default_range_is_the_ratings_range_widened_by_an_eighth() -> None:
    for kind in ("dot-bias", "mlp"):
        assert resolve(config_from_dict(kind, {}), (1.0, 5.0)).y_range == (0.5, 5.5)
        assert resolve(config_from_dict(kind, {}), (3.0, 3.0)).y_range == (2.5, 3.5)
    assert resolve(config_from_dict("dot", {}), (1.0, 5.0)).y_range is None


def test_unknown_settings_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="no setting colour"):
        config_from_dict(kind, {"colour": 1})


@pytest.mark.parametrize("kind", ["dot", "dot-bias", "mlp"])
@pytest.mark.parametrize(
    ("y_range", "message"),
    [((5, 1), "lower end"), ((0, float("nan")), "lower end"), ("wide", "wide")],
)
def test_wrong_ranges_are_refused(kind: str, y_range: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from_dict(kind, {"y_range": y_range})


def test_wrong_kinds_and_unsettled_configs_are_refused() -> None:
    with pytest.raises(ConfigError, match="no model is called 'tower'; there are: dot"):
        config_from_dict("tower", {})
    with pytest.raises(ConfigError, match="takes a DotConfig, not a DotBiasConfig"):
        build("dot", DotBiasConfig(y_range=None), 1, 1)
    with pytest.raises(ConfigError, match="still 'auto'"):
        build("dot-bias", DotBiasConfig(), 1, 1)
    with pytest.raises(ConfigError, match="factors is 0"):
        DotConfig(n_factors=0)
    with pytest.raises(ConfigError, match="hidden layers"):
        MlpConfig(hidden_layers=(10, 0))
    with pytest.raises(ConfigError, match="dropout is 1"):
        MlpConfig(dropout=1.0)


# The course notes' example: one user and three films, each by three hand-made factors.
#                             science fiction, action, old
USER = torch.tensor([[0.7, 0.2, -0.5]])
FILMS = torch.tensor(
    [
        [0.9, 0.8, 0.7],  # Star Wars
        [0.5, -0.1, -1.0],  # Barbie
        [-0.6, 0.4, -0.5],  # Oppenheimer
    ]
)


def test_hand_made_factors_give_the_notes_scores() -> None:
    model = DotProduct.from_factors(USER, FILMS)
    scores = model(torch.tensor([1, 1, 1]), torch.tensor([1, 2, 3]))
    torch.testing.assert_close(scores.detach(), torch.tensor([0.44, 0.83, -0.09]), rtol=0, atol=1e-6)
    # An unknown film is the average film, and biases add to the score.
    unknown = model(torch.tensor([1]), torch.tensor([0]))
    torch.testing.assert_close(unknown.detach(), scores.detach().mean(dim=0, keepdim=True))
    model = DotProduct.from_factors(USER, FILMS, torch.tensor([0.5]), torch.tensor([0.1, 0.0, -0.3]))
    scores = model(torch.tensor([1, 1, 1]), torch.tensor([1, 2, 3])).detach()
    torch.testing.assert_close(scores, torch.tensor([1.04, 1.33, 0.11]), rtol=0, atol=1e-6)


def test_the_width_rule_gives_the_notes_tables() -> None:
    assert (embedding_width(944), embedding_width(1665)) == (74, 102)
    assert embedding_width(10_000_000) == 600
    model = build("mlp", MlpConfig(y_range=(0.5, 5.5)), 943, 1664)
    assert tuple(model.user_factors.shape) == (944, 74)
    assert tuple(model.item_factors.shape) == (1665, 102)
    assert tuple(model.layers[0].weight.shape) == (100, 176)


def test_hidden_layers_follow_fastai_s_order() -> None:
    model = make("mlp", hidden_layers=[100, 50], batch_norm=True, dropout=0.1)
    names = [type(layer).__name__ for layer in model.layers]
    assert names == ["Linear", "ReLU", "BatchNorm1d", "Dropout"] * 2 + ["Linear"]
    assert [layer.bias is not None for layer in model.layers if isinstance(layer, nn.Linear)] == [
        False,
        False,
        True,
    ]
    assert [type(layer).__name__ for layer in make("mlp").layers] == ["Linear", "ReLU", "Linear"]
    assert [type(layer).__name__ for layer in make("mlp", hidden_layers=[]).layers] == ["Linear"]


def test_the_mlp_is_what_numpy_computes() -> None:
    model = make("mlp", hidden_layers=[6, 4], n_user_factors=3, n_item_factors=2)
    weights = {name: value.detach().numpy().astype(np.float64) for name, value in model.named_parameters()}
    users, items = (index.numpy() for index in all_pairs())
    x = np.concatenate([weights["user_factors"][users], weights["item_factors"][items]], axis=1)
    for layer in ("layers.0", "layers.2"):
        x = np.maximum(x @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"], 0)
    x = (x @ weights["layers.4.weight"].T + weights["layers.4.bias"])[:, 0]
    expected = 0.5 + 5.0 / (1 + np.exp(-x))
    np.testing.assert_allclose(model(*all_pairs()).detach().numpy(), expected, rtol=1e-6)
