"""From a module's state to arrays: the first layer split in two, batch norm folded in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.model.mlp import MlpArrays
from export.write.run_inputs import module_arrays
from recsys.models import MlpConfig, build


@pytest.mark.parametrize("hidden_layers", [(), (6,), (6, 4)])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_split_and_folded_layers_give_the_modules_scores(hidden_layers, batch_norm, dropout) -> None:
    config = MlpConfig(
        hidden_layers=hidden_layers, batch_norm=batch_norm, dropout=dropout, y_range=(0.0, 5.5)
    )
    torch.manual_seed(0)
    module = build("mlp", config, 7, 11)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    module.eval()
    arrays = module_arrays(module, (0.0, 5.5))
    assert isinstance(arrays, MlpArrays)
    assert len(arrays.layers) == len(hidden_layers)
    users, items = (axis.ravel() for axis in torch.meshgrid(torch.arange(8), torch.arange(12), indexing="ij"))
    with torch.inference_mode():
        expected = module(users, items).numpy().reshape(8, 12)
    # float32 sums in torch, float64 in the reference; in ratings.
    np.testing.assert_allclose(arrays.scores64(np.arange(8)), expected, atol=1e-5)
