"""A two-tower `torch.nn.Module`: both towers run once, over all users and over all items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from export.errors import TableError
from export.foreign.own_parity import OwnScores
from export.model.arrays import Float64, Int64

ROWS_AT_ONCE = 1 << 14
INPUTS = ("user_inputs", "item_inputs")
TOWERS = ("user_tower", "item_tower")


def read_model(
    model: nn.Module, seen: Any, options: dict[str, Any]
) -> tuple[dict[str, Any], OwnScores, bool]:
    """The arguments of `bundle_arrays`, the model's own scores, and whether a list has the same.

    The options have the towers' inputs, a tensor [n, …] or a tuple of several: `user_inputs`, `item_inputs`;
    and, if they are not attributes `user_tower` and `item_tower` of the module, the towers under these names.
    `forward(*user_inputs, *item_inputs)` scores pairs; it may scale the products, if it keeps their order.
    """
    if missing := [name for name in INPUTS if name not in options]:
        raise TableError(f"{' and '.join(missing)} missing: the tensors that the towers take, a row for each")
    users, items = (_tuple(options.pop(name)) for name in INPUTS)
    towers: list[Any] = [options.pop(name, None) or getattr(model, name, None) for name in TOWERS]
    if None in towers:
        raise TableError(f"{type(model).__name__} has no {' and '.join(TOWERS)}: give them under these names")
    was_training = model.training
    model.eval()
    try:
        tables = [_run(tower, inputs) for tower, inputs in zip(towers, (users, items), strict=True)]
    finally:
        model.train(was_training)

    def own_scores(rows: Int64) -> Float64:
        n_items, found = len(items[0]), []
        model.eval()
        for row in rows.tolist():
            one = tuple(column[row].expand(n_items, *column.shape[1:]) for column in users)
            found.append(_run(model, (*one, *items)).reshape(n_items))
        model.train(was_training)
        return np.stack(found).astype(np.float64)

    given = {"user_factors": tables[0], "item_factors": tables[1], "seen": seen, "scores": "ranking"}
    return given, own_scores, False


def _tuple(inputs: Any) -> tuple[Tensor, ...]:
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


@torch.inference_mode()
def _run(module: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> np.ndarray:
    """The outputs for all rows, in parts of bounded size."""
    parts = [torch.split(column, ROWS_AT_ONCE) for column in inputs]
    rows: np.ndarray = torch.cat([module(*part) for part in zip(*parts, strict=True)]).cpu().numpy()
    return rows
