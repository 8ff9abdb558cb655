"""The arrays of a torch module."""

from __future__ import annotations

import numpy as np
from torch import nn

from export.errors import GraphError
from export.model.arrays import Arrays
from export.model.dot import DotArrays
from export.model.mlp import MlpArrays


def module_arrays(module: nn.Module, y_range: tuple[float, float] | None) -> Arrays:
    """The arrays of a `Dot`, `DotBias` or `Mlp` module; `y_range` as in its config (ratings).

    Raises:
        GraphError: a table holds NaN or infinity; TopK would be undefined.
    """
    state = {name: tensor.detach().cpu().numpy() for name, tensor in module.state_dict().items()}
    for name, array in state.items():
        if not np.isfinite(array).all():
            raise GraphError(f"{name} holds NaN or infinite values: train again with a lower learning rate")
    kind = MlpArrays if "layers.0.weight" in state else DotArrays
    return kind.of_state(state, y_range)
