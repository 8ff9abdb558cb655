"""Products of a sparse matrix and dense tables, at a cost linear in the entries of the matrix."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    """A matrix float32 [n_rows, n_columns] of which the entries are stored row by row."""

    offsets: Tensor
    """int64 [1 + n_rows]: row r has the entries offsets[r] to offsets[r + 1], exclusive."""
    columns: Tensor
    """int64 [n], ascending within a row."""
    values: Tensor
    """float32 [n]."""
    n_columns: int

    @classmethod
    def of(cls, rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Self:
        """Sort entries into rows: int64 [n], int64 [n] and float32 [n], on one device, without duplicates."""
        n_rows, n_columns = shape
        order = (rows * n_columns + columns).argsort()
        offsets = torch.zeros(1 + n_rows, dtype=torch.int64, device=rows.device)
        offsets[1:] = rows.bincount(minlength=n_rows).cumsum(0)
        return cls(offsets, columns[order], values[order], n_columns)

    def with_values(self, values: Tensor) -> Self:
        """Return a matrix with other values in the same places: float32 [n]."""
        return replace(self, values=values)

    def transposed(self) -> Self:
        """Return the transpose."""
        rows = torch.repeat_interleave(self.offsets.diff())  # [n]
        shape = (self.n_columns, len(self.offsets) - 1)
        return type(self).of(self.columns, rows, self.values, shape)

    def times(self, table: Tensor) -> Tensor:
        """Multiply by a table: float32 [n_columns, F] -> float32 [n_rows, F].

        A row without entries is 0. `embedding_bag` takes a fifth of the time of torch's product of a sparse
        tensor (docs/experiments.md).
        """
        return embedding_bag(
            self.columns, table, self.offsets[:-1], mode="sum", per_sample_weights=self.values
        )

    def dot_products(self, left: Tensor, right: Tensor) -> Tensor:
        """Dot products of rows at the entries alone: [n_rows, F], [n_columns, F] -> float32 [n]."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
            pattern = torch.sparse_csr_tensor(
                self.offsets,
                self.columns,
                torch.zeros_like(self.values),
                (len(left), len(right)),
                check_invariants=False,
            )
        products: Tensor = torch.sparse.sampled_addmm(pattern, left, right.T, beta=0).values()
        return products
