"""The largest singular values and vectors of a matrix that is known by its products alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ITERATIONS = 8
OVERSAMPLING = 32
"""Columns that a random start should have more than the rank: the last singular vectors come out better."""


def truncated_svd(
    times: Callable[[Tensor], Tensor],
    transposed_times: Callable[[Tensor], Tensor],
    start: Tensor,
    rank: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Truncated SVD of an operator by subspace iteration (Halko, Martinsson and Tropp 2011).

    Args:
        times: [n, w] -> [m, w].
        transposed_times: [m, w] -> [n, w].
        start: random, [n, at least rank].
        rank: at most m and n.

    Returns:
        Left vectors [m, rank], singular values [rank], descending, and right vectors [n, rank].
    """
    basis = start
    for _ in range(ITERATIONS):
        basis = _well_conditioned(transposed_times(_well_conditioned(times(basis))))
    basis = torch.linalg.qr(basis).Q
    left, values, rotation = torch.linalg.svd(times(basis), full_matrices=False)
    return left[:, :rank], values[:rank], (basis @ rotation.T)[:, :rank]


def _well_conditioned(table: Tensor) -> Tensor:
    """A basis of the space that the columns span: nearly orthonormal, by a Cholesky factor of their products.

    Householder's QR of a tall table takes several times as long, and only the last basis needs it.
    """
    gram = table.T @ table
    # Above the rounding errors of the products, so that the factor exists whatever the table.
    gram.diagonal().add_(10 * torch.finfo(gram.dtype).eps * gram.trace() + torch.finfo(gram.dtype).tiny)
    lower = torch.linalg.cholesky(gram)
    basis: Tensor = torch.linalg.solve_triangular(lower.mT, table, upper=True, left=False)
    return basis
