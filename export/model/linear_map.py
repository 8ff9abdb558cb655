"""An approximate row of a new user of an MLP, which has no closed form: a linear map of the ratings.

A user's half of the first layer is predicted from e, the sum over the rated items of (logit of the rating -
logit of the average user) times [the item's half of that layer, 1], divided by the number of ratings plus a
prior. The map is a ridge regression on the users of the training, whose halves are known: each with all
ratings, and with 1, 3 and 10 of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.model.arrays import Float32, Float64, Int64

# Users that the map is fitted to.
MAX_USERS = 2_000
GIVEN = (1, 3, 10)


@dataclass(frozen=True, eq=False)
class LinearMap:
    """The map, and what it needs of the average user."""

    average_logits: Float32
    """[n_items + 1, 1]: the average user's; row 0 is 0"""
    weights: Float32
    """[H + 1, H]"""
    prior_ratings: float


def inputs64(
    item_hidden: Float32, average_logits: Float32, items: Int64, logits: Float64, prior_ratings: float
) -> Float64:
    """E of the module's docstring, for the items int64 [H] that are rated, and their logits float64 [H]."""
    residuals = logits - average_logits[items, 0]
    rows = np.column_stack([item_hidden[items].astype(np.float64), np.ones(len(items))])
    e: Float64 = residuals @ rows / (len(items) + prior_ratings)
    return e


def fit_linear_map(
    user_hidden: Float32,
    item_hidden: Float32,
    average_logits: Float32,
    ratings: tuple[npt.NDArray[np.integer], npt.NDArray[np.integer], Float64],
    regularization: float,
    prior_ratings: float,
) -> LinearMap:
    """Fit the map.

    Args:
        user_hidden: [n_users + 1, H]; row 0 is the average user.
        item_hidden: [n_items + 1, H].
        average_logits: [n_items + 1, 1].
        ratings: of the training: user index, item index, logit, [n] each.
        regularization: of the ridge, relative to the mean square of the inputs.
        prior_ratings: see the module.
    """
    user_index, item_index, logits = ratings
    rng = np.random.default_rng(4)
    order = np.argsort(user_index, kind="stable")
    users, starts = np.unique(user_index[order], return_index=True)
    ends = np.append(starts[1:], len(order))
    chosen = rng.permutation(len(users))[:MAX_USERS]
    inputs, targets = [], []
    for place in np.sort(chosen):
        rows = order[starts[place] : ends[place]]
        for n in (*GIVEN, None):
            some = rows if n is None else rng.permutation(rows)[:n]
            items = item_index[some].astype(np.int64)
            inputs.append(inputs64(item_hidden, average_logits, items, logits[some], prior_ratings))
            targets.append(user_hidden[users[place]].astype(np.float64) - user_hidden[0])
    x, y = np.stack(inputs), np.stack(targets)
    gram = x.T @ x
    strength = regularization * (float(np.trace(gram)) / len(gram) or 1.0)
    weights = np.linalg.solve(gram + strength * np.eye(len(gram)), x.T @ y)
    return LinearMap(average_logits, weights.astype(np.float32), prior_ratings)
