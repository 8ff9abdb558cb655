"""The truncated SVD of an operator."""

from __future__ import annotations

import numpy as np
import torch

from recsys.models.truncated_svd import truncated_svd


def test_the_truncated_svd_is_that_of_numpy() -> None:
    rng = np.random.default_rng(0)
    matrix = torch.from_numpy(rng.normal(size=(30, 20)) * 0.7 ** np.arange(20))
    left, values, right = truncated_svd(
        lambda table: matrix @ table,
        lambda table: matrix.T @ table,
        torch.from_numpy(rng.normal(size=(20, 9))),
        5,
    )
    expected = np.linalg.svd(matrix.numpy())
    np.testing.assert_allclose(values, expected.S[:5], rtol=1e-6)
    np.testing.assert_allclose(
        (left * values) @ right.T, (expected.U[:, :5] * expected.S[:5]) @ expected.Vh[:5], atol=1e-4
    )
