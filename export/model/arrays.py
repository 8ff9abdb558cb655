"""A trained model as plain arrays: what the graphs are written from.

Graphs know arrays, not modules, so that tables from elsewhere (another trainer, another precision) get the
same graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DotArrays:
    """score = user . item (+ user bias + item bias), through a sigmoid range where there is one.

    All arrays are float32; row 0 is "unknown".
    """

    user_factors: Float32
    """[n_users + 1, F]"""
    item_factors: Float32
    """[n_items + 1, F]"""
    user_biases: Float32 | None
    """[n_users + 1, 1]; None in a model without biases"""
    item_biases: Float32 | None
    """[n_items + 1, 1]; None in a model without biases"""
    y_range: tuple[float, float] | None
    """The sigmoid range (ratings); None where the score is the plain product."""

    def of_items(self, items: npt.NDArray[np.int64]) -> DotArrays:
        """With these items alone, int64 [n], in place of all, row 0 included."""
        biases = None if self.item_biases is None else self.item_biases[items]
        return replace(self, item_factors=self.item_factors[items], item_biases=biases)


@dataclass(frozen=True, eq=False)
class MlpArrays:
    """score = MLP(concat(user, item)), the first layer split into its two halves and applied already.

    With W = [W_user | W_item], relu(W @ concat(u, v) + b) = relu((W_user u + b) + W_item v): both halves are
    tables, so that a query pays one addition instead of a [B, N, wide] concatenation.
    """

    user_hidden: Float32
    """[n_users + 1, H]: W_user u + b"""
    item_hidden: Float32
    """[n_items + 1, H]: W_item v"""
    layers: tuple[tuple[Float32, Float32], ...]
    """(weight [out, in], bias [out]) of the layers after the first, each applied after a ReLU; the last has
    out = 1. Batch norm is folded in."""
    item_factors: Float32
    """[n_items + 1, F]: the item embeddings, for neighbours"""
    y_range: tuple[float, float] | None

    def of_items(self, items: npt.NDArray[np.int64]) -> MlpArrays:
        """With these items alone, int64 [n], in place of all, row 0 included."""
        return replace(self, item_factors=self.item_factors[items], item_hidden=self.item_hidden[items])


Arrays = DotArrays | MlpArrays


def dot_arrays(state: Mapping[str, Float32], y_range: tuple[float, float] | None) -> DotArrays:
    """The arrays of a `dot` or `dot-bias` model from its state."""
    return DotArrays(
        user_factors=state["user_factors"],
        item_factors=state["item_factors"],
        user_biases=state.get("user_biases"),
        item_biases=state.get("item_biases"),
        y_range=y_range,
    )


def mlp_arrays(state: Mapping[str, Float32], y_range: tuple[float, float] | None) -> MlpArrays:
    """The arrays of an `mlp` model from its state (`layers.N.weight`, `.bias`, `.running_mean`, …).

    A batch norm stands after a ReLU and before a linear layer, so it folds into the latter:
    W (g (x - m) / s + b) + c = (W g / s) x + (W (b - g m / s) + c). Products are taken in float64.
    """
    numbers = sorted({int(name.split(".")[1]) for name in state if name.startswith("layers.")})
    folded: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
    scale: npt.NDArray[np.float64] | None = None
    shift: npt.NDArray[np.float64] | None = None
    for number in numbers:
        part = {
            name.removeprefix(f"layers.{number}."): array.astype(np.float64)
            for name, array in state.items()
            if name.startswith(f"layers.{number}.")
        }
        if "running_mean" in part:
            scale = part["weight"] / np.sqrt(part["running_var"] + BATCH_NORM_EPS)
            shift = part["bias"] - scale * part["running_mean"]
            continue
        weight = part["weight"]
        bias = part.get("bias", np.zeros(len(weight)))
        if scale is not None and shift is not None:
            bias = bias + weight @ shift
            weight = weight * scale
            scale = shift = None
        folded.append((weight, bias))
    (first_weight, first_bias), *others = folded
    user_factors = state["user_factors"].astype(np.float64)
    item_factors = state["item_factors"].astype(np.float64)
    width = user_factors.shape[1]
    return MlpArrays(
        user_hidden=(user_factors @ first_weight[:, :width].T + first_bias).astype(np.float32),
        item_hidden=(item_factors @ first_weight[:, width:].T).astype(np.float32),
        layers=tuple((weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in others),
        item_factors=state["item_factors"],
        y_range=y_range,
    )


# torch.nn.BatchNorm1d's default; the models never change it.
BATCH_NORM_EPS = 1e-5
