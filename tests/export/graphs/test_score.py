"""`score.onnx`: the module itself, whatever it is."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import tiny_runs
import torch
from torch import Tensor, nn

from export.graphs.build import IR_VERSION, OPSET
from export.graphs.score import score_graph
from recsys.models import build


@pytest.mark.parametrize("name", [pytest.param("dot", marks=pytest.mark.slow), "dot-bias", "mlp"])
def test_equals_the_module(run_model, rng, name) -> None:
    ((kind, config),) = tiny_runs.CONFIGS[name]
    module = build(kind, config, tiny_runs.N_USERS, tiny_runs.N_ITEMS)
    module.load_state_dict(tiny_runs.weights(kind, config))
    module.eval()
    model = score_graph(module)
    assert model.ir_version == IR_VERSION
    assert model.opset_imports[""] == OPSET
    assert set(dict(module.named_parameters())) <= set(model.graph.initializers) | {"layers.2.weight"}
    for n in (1, 2, 100):
        users, items = rng.integers(0, 31, n), rng.integers(0, 51, n)
        with torch.inference_mode():
            expected = module(torch.from_numpy(users), torch.from_numpy(items)).numpy()
        found = run_model(model, {"user_index": users, "item_index": items})["score"]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)


class TwoTowers(nn.Module):
    """Not one of ours: two embeddings, a tower each, and a cosine."""

    def __init__(self) -> None:
        super().__init__()
        self.users = nn.Embedding(11, 8)
        self.items = nn.Embedding(21, 8)
        self.user_tower = nn.Sequential(nn.Linear(8, 4), nn.Tanh())
        self.item_tower = nn.Sequential(nn.Linear(8, 4), nn.Tanh())

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        users = self.user_tower(self.users(user_index))
        items = self.item_tower(self.items(item_index))
        return nn.functional.cosine_similarity(users, items, dim=1)


def test_any_module_with_that_forward(run_model, rng) -> None:
    module = TwoTowers().train()
    users, items = rng.integers(0, 11, 30), rng.integers(0, 21, 30)
    found = run_model(score_graph(module), {"user_index": users, "item_index": items})["score"]
    assert module.training, "the module is left as it was"
    with torch.inference_mode():
        expected = module(torch.from_numpy(users), torch.from_numpy(items)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_nothing_in_the_file_names_a_place() -> None:
    data = ir.to_proto(score_graph(TwoTowers())).SerializeToString()
    for word in (b".py", b"stack_trace", b"torch.onnx", b"site-packages", __file__.encode()):
        assert word not in data, word
