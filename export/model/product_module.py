"""A product of tables as a torch module."""

from __future__ import annotations

import torch
from torch import nn

from export.model.dot import DotArrays
from recsys.models.modules import Biases, DotProduct


def product_module(arrays: DotArrays) -> nn.Module:
    """The torch module with these tables and their range, in eval mode."""
    biases: Biases = "both" if arrays.user_biases is not None else "items"
    if arrays.item_biases is None:
        biases = "none"
    with torch.device("meta"):  # the tables are replaced
        module = DotProduct(
            arrays.n_users, arrays.n_items, arrays.item_factors.shape[1], arrays.y_range, biases=biases
        )
    tables = {name: torch.tensor(getattr(arrays, name)) for name in module.state_dict()}
    module.load_state_dict(tables, assign=True)
    return module.eval()
