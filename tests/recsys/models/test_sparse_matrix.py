"""Products of a sparse matrix against the same with a dense one."""

from __future__ import annotations

import numpy as np
import torch

from recsys.models.sparse_matrix import SparseMatrix


def sparse(dense: np.ndarray) -> SparseMatrix:
    rows, columns = np.nonzero(dense)
    order = np.random.default_rng(1).permutation(len(rows))  # entries come in any order
    rows, columns = rows[order], columns[order]
    values = torch.from_numpy(dense[rows, columns].astype(np.float32))
    return SparseMatrix.of(torch.from_numpy(rows), torch.from_numpy(columns), values, dense.shape)


def test_products_equal_those_of_the_dense_matrix() -> None:
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((7, 5)) < 0.4, rng.normal(size=(7, 5)), 0)
    dense[[0, 6]] = 0  # empty rows at both ends
    left, right = rng.normal(size=(7, 3)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    matrix = sparse(dense)
    np.testing.assert_allclose(matrix.times(torch.from_numpy(right)), dense @ right, atol=1e-6)
    np.testing.assert_allclose(matrix.transposed().times(torch.from_numpy(left)), dense.T @ left, atol=1e-6)
    products = matrix.with_values(matrix.dot_products(torch.from_numpy(left), torch.from_numpy(right)))
    expected = np.where(dense != 0, left @ right.T, 0)
    np.testing.assert_allclose(products.times(torch.eye(5)), expected, atol=1e-6)


def test_a_matrix_without_entries_gives_zeros() -> None:
    assert sparse(np.zeros((3, 2))).times(torch.ones(2, 4)).tolist() == np.zeros((3, 4)).tolist()
