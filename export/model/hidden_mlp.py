"""An MLP from the tables of its graphs, as a torch module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from export.model.mlp import MlpArrays
from recsys.models.modules import squash


class HiddenMlp(nn.Module):
    """The score of `MlpArrays`, for tables that no embeddings give: rounded ones."""

    def __init__(self, arrays: MlpArrays) -> None:
        super().__init__()
        self.y_range = arrays.y_range
        self.user_hidden = nn.Parameter(torch.from_numpy(arrays.user_hidden))
        self.item_hidden = nn.Parameter(torch.from_numpy(arrays.item_hidden))
        self.layers = nn.ModuleList(
            nn.ParameterDict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
            for weight, bias in arrays.layers
        )

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """Score pairs: int64 [N], int64 [N] -> float32 [N]."""
        hidden = embedding(user_index, self.user_hidden) + embedding(item_index, self.item_hidden)
        for layer in self.layers:
            assert isinstance(layer, nn.ParameterDict)
            hidden = linear(hidden.relu(), layer["weight"], layer["bias"])
        return squash(hidden.squeeze(1), self.y_range)
