"""EASE: a linear model of items by items in closed form, as two narrow tables (Steck 2019).

A user's scores are x B, x the user's row of 0 and 1 and B [n_items, n_items] the ridge regression of every
item on all others. With P the inverse of the regularised Gram matrix of the items, B = -P / diag(P) column by
column, with a diagonal of zeros. The Gram matrix weighs active users less, and has a row for every feature of
items, as if one more user had rated all items that have it. The truncated SVD of B gives an input and an
output table: a user's factors are the sum of the input rows of the user's items, which also is the exact
fold-in. On MovieLens 100K the truncation ranks better than B itself.
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

MAX_ITEMS_IN_FLOAT64 = 4096
"""A larger Gram matrix is inverted in float32, which takes half of the time and memory."""
OPERATOR_RANK = 1024
"""Singular vectors of the users' rows that stand for all of them where B is never made."""
GRAM_BLOCK = 1 << 26
"""Values of the dense block of columns (float32: 256 MiB) that the Gram matrix is made from."""


@dataclass(frozen=True)
class EaseConfig:
    """Settings of an `ease` model."""

    n_factors: int = 64
    """Width of the tables."""
    regularization: float = 500.0
    """Added to the diagonal of the Gram matrix, of which the trace is the number of ratings."""
    feature_weight: float = 4.0
    """Weight of a feature of items, as of so many users who rated the items that have it; 0: none."""
    user_power: float = 0.25
    """The row of a user with n ratings is multiplied by n to the minus this power."""
    max_dense_items: int = 20_000
    """With more items B is not made, and nothing grows with the square of the number of items."""

    def __post_init__(self) -> None:
        if self.n_factors < 1:
            raise ConfigError(f"factors is {self.n_factors}: at least 1 is needed")
        if not 0 < self.regularization < float("inf"):
            raise ConfigError(f"ease: regularization is {self.regularization}; it must be above 0 and finite")
        if not 0 <= self.feature_weight < float("inf"):
            raise ConfigError(
                f"ease: feature_weight is {self.feature_weight}; it must be at least 0 and finite"
            )
        if not 0 <= self.user_power <= 1:
            raise ConfigError(f"ease: user_power is {self.user_power}; it must be between 0 and 1")


def build(config: EaseConfig, n_users: int, n_items: int) -> nn.Module:
    """Build a dot product with a buffer `input_factors` [1 + n_items, F], of which row 0 is 0.

    A user's factors are the sum of the input factors of the user's items.
    """
    import torch

    from recsys.models.modules import DotProduct

    model = DotProduct(n_users, n_items, config.n_factors, biases="none")
    model.register_buffer("input_factors", torch.zeros(1 + n_items, config.n_factors))
    return model


def fit(
    ratings: Interactions,
    config: EaseConfig,
    *,
    seed: int,
    device: torch.device,
    on_progress: Callable[[int, int], None],
    on_iteration: Callable[[Mapping[str, float]], None],
) -> dict[str, np.ndarray]:
    """See `recsys.models.kind.Fit`. The values of the ratings do not matter, and there are no iterations."""
    import torch

    from recsys.models.sparse_matrix import SparseMatrix
    from recsys.models.truncated_svd import OVERSAMPLING, truncated_svd

    n_users, n_items = ratings.n_users, ratings.n_items
    user_index, item_index = (
        torch.from_numpy(index.astype(np.int64)).to(device) - 1
        for index in (ratings.user_index, ratings.item_index)
    )
    ones = torch.ones(len(ratings), device=device)
    of_users = SparseMatrix.of(user_index, item_index, ones, (n_users, n_items))
    rows = _training_rows(ratings, user_index, item_index, config)
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same numbers on every device
    n_factors = min(config.n_factors, n_items)
    # The operator is exact up to its rank, and costs less where there are few users.
    n_rows = len(rows.offsets) - 1
    if n_items <= config.max_dense_items and n_rows > min(OPERATOR_RANK, n_items // 2):
        weights = dense_weights(rows, config.regularization)
        left, values, right = truncated_svd(
            lambda table: weights @ table,
            lambda table: weights.T @ table,
            torch.randn(n_items, min(n_factors + OVERSAMPLING, n_items), generator=generator).to(weights),
            n_factors,
        )
    else:
        left, values, right = _operator_svd(rows, config.regularization, n_factors, generator)
    input_factors = torch.zeros(1 + n_items, config.n_factors, device=device)
    item_factors, user_factors = input_factors.clone(), torch.zeros(1 + n_users, config.n_factors).to(device)
    input_factors[1:, :n_factors] = (left * values.sqrt()).float()
    item_factors[1:, :n_factors] = (right * values.sqrt()).float()
    user_factors[1:] = of_users.times(input_factors[1:])
    return {
        "user_factors": user_factors.cpu().numpy(),
        "item_factors": item_factors.cpu().numpy(),
        "input_factors": input_factors.cpu().numpy(),
    }


def _training_rows(
    ratings: Interactions, user_index: Tensor, item_index: Tensor, config: EaseConfig
) -> SparseMatrix:
    """Weighted rows of users, rescaled to a sum of squares of one per rating, then the rows of features."""
    import torch

    from recsys.data.features import binary_features
    from recsys.models.sparse_matrix import SparseMatrix

    values = user_index.bincount(minlength=ratings.n_users).float()[user_index] ** -config.user_power
    values *= (len(values) / values.square().sum(dtype=torch.float64)).sqrt().float()
    features = binary_features(ratings.items)  # [n_items, A]
    of_items, columns = (torch.from_numpy(index).to(user_index) for index in np.nonzero(features))
    if config.feature_weight == 0:
        of_items, columns = of_items[:0], columns[:0]
    return SparseMatrix.of(
        torch.cat([user_index, ratings.n_users + columns]),
        torch.cat([item_index, of_items]),
        torch.cat([values, torch.full(columns.shape, config.feature_weight**0.5).to(values)]),
        (ratings.n_users + features.shape[1], ratings.n_items),
    )


def dense_weights(rows: SparseMatrix, regularization: float) -> Tensor:
    """B [n_items, n_items]: float64 for few items, else float32; `rows`: [n, n_items]."""
    import torch

    gram = _gram(rows)
    if len(gram) <= MAX_ITEMS_IN_FLOAT64:
        gram = gram.double()
    gram.diagonal().add_(regularization)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    del gram
    weights = inverse.div_(-inverse.diagonal().clone())
    return weights.fill_diagonal_(0)


def _gram(rows: SparseMatrix) -> Tensor:
    """Gram matrix of the columns, float32 [n_items, n_items], from dense blocks of columns."""
    import torch

    columns = rows.transposed()
    n_rows, n_items = len(rows.offsets) - 1, rows.n_columns
    gram = torch.empty(n_items, n_items, device=rows.values.device)
    width = max(1, GRAM_BLOCK // max(1, n_rows, n_items))
    item_of_entry = torch.repeat_interleave(columns.offsets.diff())
    for start in range(0, n_items, width):
        stop = min(start + width, n_items)
        entries = slice(int(columns.offsets[start]), int(columns.offsets[stop]))
        block = torch.zeros(n_rows, stop - start, device=gram.device)
        block[columns.columns[entries], item_of_entry[entries] - start] = columns.values[entries]
        gram[:, start:stop] = columns.times(block)
    return gram


def _operator_svd(
    rows: SparseMatrix, regularization: float, rank: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Truncated SVD of B without B, from the singular values s and right vectors V of the rows.

    B = V diag(shrink) V' diag(1 / (1 - h)) - diag(h / (1 - h)) with shrink = s^2 / (s^2 + r) and h the
    diagonal of V diag(shrink) V'. That is exact if no singular vector is left out.
    """
    import torch

    from recsys.models.truncated_svd import OVERSAMPLING, truncated_svd

    n_items, of_items = rows.n_columns, rows.transposed()
    n_rows = len(rows.offsets) - 1

    def start(width: int) -> Tensor:
        width = min(width + OVERSAMPLING, n_items)
        return torch.randn(n_items, width, generator=generator).to(rows.values)

    if n_rows <= OPERATOR_RANK:
        dense = of_items.times(torch.eye(n_rows, device=rows.values.device))  # [n_items, n_rows]
        vectors, singular, _ = torch.linalg.svd(dense, full_matrices=False)
    else:
        rank_of_rows = min(OPERATOR_RANK, n_items)
        _, singular, vectors = truncated_svd(rows.times, of_items.times, start(rank_of_rows), rank_of_rows)
    shrink = singular.square() / (singular.square() + regularization)
    kept = (vectors.square() * shrink).sum(1, keepdim=True)  # h, [n_items, 1]
    scale = 1 / (1 - kept)

    def times(table: Tensor) -> Tensor:
        result: Tensor = vectors @ (shrink[:, None] * (vectors.T @ (scale * table))) - kept * scale * table
        return result

    def transposed_times(table: Tensor) -> Tensor:
        result: Tensor = scale * (vectors @ (shrink[:, None] * (vectors.T @ table)) - kept * table)
        return result

    return truncated_svd(times, transposed_times, start(rank), rank)


def memory(config: EaseConfig, n_users: int, n_items: int, n_ratings: int) -> int:
    """See `Kind.memory`: three matrices of items by items, or a few tables of the operator's rank."""
    from recsys.models.truncated_svd import OVERSAMPLING

    tables = 12 * (n_users + 2 * n_items) * config.n_factors
    if n_items <= config.max_dense_items and n_users > min(OPERATOR_RANK, n_items // 2):
        matrices = 3 * (8 if n_items <= MAX_ITEMS_IN_FLOAT64 else 4) * n_items**2
    else:
        matrices = 16 * (min(OPERATOR_RANK, n_users) + OVERSAMPLING) * (n_users + n_items)
    return matrices + tables + 80 * n_ratings


KIND = Kind("ease", EaseConfig, build, ("ranking",), fit, memory, fits_untrained_rows=True)
