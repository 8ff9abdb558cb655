"""Implicit ALS: factors that tell the items of a user from all others (Hu, Koren and Volinsky 2008).

Minimises, over the scores s = u . v of all pairs of a user and an item,

    sum over rated pairs of w (1 - s)^2 + a sum over all pairs of s^2 + r (|U|^2 + |V|^2)

by alternating between the users' rows U and the items' rows V. The weight w of a pair rises with its rating.
A half-step is a linear system per row, C + sum of w v v' with C = a V'V + r I, solved by a few steps of
conjugate gradients from the rows before it (Takács, Pilászy and Tikk 2011). With C = L L' the tables U L and
V L'^-1 give the same scores, and C becomes the identity: that is the preconditioner, and the form in which
tables are returned. A user is then a ridge regression of 1 on the rows of the user's items with the weights w
and regularisation 1, from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys.errors import ConfigError
from recsys.models.kind import Kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from recsys.data.interactions import Interactions
    from recsys.models.sparse_matrix import SparseMatrix

INIT_STD = 0.1
"""Standard deviation of the items' first rows, times sqrt(n_factors)."""
CG_STEPS = 2
"""Of a half-step. On MovieLens 100K neither lists nor the objective get better with more."""
LAST_CG_STEPS = 10
"""Of the last half-step, which leaves the users' rows equal to their fold-in."""
MIN_WEIGHT = 0.1
"""Lowest weight of a rated pair, for ratings far below the mean."""


@dataclass(frozen=True)
class IalsConfig:
    """Settings of an `ials` model."""

    n_factors: int = 64
    """Latent factors per user and item."""
    regularization: float = 9.0
    """r: of the squared length of the rows."""
    unobserved_weight: float = 0.45
    """a: weight of the square of any pair's score."""
    rating_weight: float = 0.1
    """Increase of a rated pair's weight per standard deviation of the ratings; 0: all weights are 1."""
    iterations: int = 8
    """Half-steps of either side; the users have one more."""

    def __post_init__(self) -> None:
        if min(self.n_factors, self.iterations) < 1:
            raise ConfigError("ials: at least 1 factor and 1 iteration are needed")
        for name in ("regularization", "unobserved_weight"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"ials: {name} is {getattr(self, name)}; it must be above 0 and finite")
        if not 0 <= self.rating_weight < float("inf"):
            raise ConfigError(
                f"ials: rating_weight is {self.rating_weight}; it must be at least 0 and finite"
            )


def build(config: IalsConfig, n_users: int, n_items: int) -> nn.Module:
    """Build a dot product with a buffer `confidence`, as `confidence_of` returns it."""
    import torch

    from recsys.models.modules import DotProduct

    model = DotProduct(n_users, n_items, config.n_factors, biases="none")
    model.register_buffer("confidence", torch.zeros(2))
    return model


def confidence_of(ratings: np.ndarray, rating_weight: float) -> np.ndarray:
    """Mean of the ratings, and increase of the weight per unit of rating: float32 [2].

    The increase is 0 where all ratings are equal. A positive affine change of the ratings changes no weight.
    """
    deviation = float(ratings.std(dtype=np.float64))
    slope = rating_weight / deviation if deviation > 0 else 0.0
    return np.array([ratings.mean(dtype=np.float64), slope], np.float32)


def weights_of(ratings: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Weights of rated pairs: float32 [n]; `confidence` as `confidence_of` returns it."""
    mean, slope = confidence
    weights: np.ndarray = np.maximum(1 + slope * (ratings - mean), MIN_WEIGHT).astype(np.float32)
    return weights


def fit(
    ratings: Interactions,
    config: IalsConfig,
    *,
    seed: int,
    device: torch.device,
    on_progress: Callable[[int, int], None],
    on_iteration: Callable[[Mapping[str, float]], None],
) -> dict[str, np.ndarray]:
    """See `recsys.models.kind.Fit`. The metric `objective` is what is minimised, per rating."""
    import torch

    from recsys.models.sparse_matrix import SparseMatrix

    confidence = confidence_of(ratings.ratings, config.rating_weight)
    weights = torch.from_numpy(weights_of(ratings.ratings, confidence)).to(device)
    user_index, item_index = (
        torch.from_numpy(index.astype(np.int64)).to(device)
        for index in (ratings.user_index, ratings.item_index)
    )
    n_users, n_items, n_factors = 1 + ratings.n_users, 1 + ratings.n_items, config.n_factors
    of_users = SparseMatrix.of(user_index, item_index, weights, (n_users, n_items))
    of_items = SparseMatrix.of(item_index, user_index, weights, (n_items, n_users))

    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same start on every device
    items = torch.randn(n_items, n_factors, generator=generator).to(device) * INIT_STD / n_factors**0.5
    items[of_items.offsets.diff() == 0] = 0
    users = torch.zeros(n_users, n_factors, device=device)
    # Users' rows are 0 at first: only the rated pairs and the items' rows count.
    objective = float(weights.sum(dtype=torch.float64))
    objective += config.regularization * float(items.square().sum(dtype=torch.float64))
    for number in range(config.iterations):
        on_progress(number, config.iterations)
        users, of_first = _half_step(of_users, users, items, config)
        items, of_second = _half_step(of_items, items, users, config)
        objective -= of_first + of_second
        on_iteration({"objective": objective / len(ratings)})
    lower = _root(items, config)
    items = _whitened(items, lower)
    users, _ = _conjugate_gradients(of_users, users @ lower, items, LAST_CG_STEPS)
    return {
        "user_factors": users.cpu().numpy(),
        "item_factors": items.cpu().numpy(),
        "confidence": confidence,
    }


def _half_step(
    weights: SparseMatrix, rows: Tensor, others: Tensor, config: IalsConfig
) -> tuple[Tensor, float]:
    """Solve for the rows of one side: returns them, and by how much the objective falls."""
    import torch

    lower = _root(others, config)
    solution, decrease = _conjugate_gradients(weights, rows @ lower, _whitened(others, lower), CG_STEPS)
    return torch.linalg.solve_triangular(lower, solution, upper=False, left=False), decrease


def _root(table: Tensor, config: IalsConfig) -> Tensor:
    """Cholesky factor L of a T'T + r I, lower triangular: [n, F] -> [F, F]."""
    import torch

    gram = config.unobserved_weight * (table.T @ table).to(torch.float64)
    gram.diagonal().add_(config.regularization)
    lower: Tensor = torch.linalg.cholesky(gram)
    return lower.to(table.dtype)


def _whitened(table: Tensor, lower: Tensor) -> Tensor:
    """T L'^-1: [n, F] -> [n, F]."""
    import torch

    columns: Tensor = torch.linalg.solve_triangular(lower, table.T, upper=False)
    return columns.T.contiguous()


def _conjugate_gradients(
    weights: SparseMatrix, start: Tensor, table: Tensor, n_steps: int
) -> tuple[Tensor, float]:
    """Solve (I + sum of w t t') x = sum of w t for all rows at once; w: a row's weights, t: their table rows.

    Args:
        weights: [n, m].
        start: [n, F].
        table: whitened rows of the other side, [m, F].
        n_steps: at least 1.

    Returns:
        x, [n, F]; and by how much the objective falls from `start` to x.
    """
    import torch

    # One product with the sparse matrix gives the whole residual: of w (1 - t . start), less start.
    weighted = weights.values * (1 - weights.dot_products(start, table))
    residual = weights.with_values(weighted).times(table).sub_(start)
    x, direction = start.clone(), residual.clone()
    norm = residual.square().sum(1, keepdim=True)
    decrease = 0.0
    for number in range(1, n_steps + 1):
        weighted = weights.values * weights.dot_products(direction, table)
        image = weights.with_values(weighted).times(table).add_(direction)
        # Rows that are solved have zeros above and below the line.
        step = norm / (direction * image).sum(1, keepdim=True).clamp_min(1e-30)
        x.addcmul_(step, direction)
        decrease += float((step * norm).sum(dtype=torch.float64))
        if number < n_steps:
            residual.addcmul_(step, image, value=-1)
            new_norm = residual.square().sum(1, keepdim=True)
            direction.mul_(new_norm / norm.clamp_min(1e-30)).add_(residual)
            norm = new_norm
    return x, decrease


def memory(config: IalsConfig, n_users: int, n_items: int, n_ratings: int) -> int:
    """See `Kind.memory`: both tables and the vectors of conjugate gradients; the ratings in two orders."""
    return 19 * (n_users + n_items) * config.n_factors + 80 * n_ratings


KIND = Kind("ials", IalsConfig, build, ("ranking",), fit, memory, fits_untrained_rows=True)
