from __future__ import annotations

import numpy as np

from recsys.evaluation.baselines import ITEM_DAMPING, USER_DAMPING, fit_biases, popularity, same_for_everyone


def test_biases_solve_the_damped_least_squares(rng: np.random.Generator) -> None:
    n_users, n_items, n = 12, 9, 300
    users, items = rng.integers(1, n_users + 1, n), rng.integers(1, n_items, n)  # the last item has no rating
    ratings = rng.normal(3, 1, n).astype(np.float32)
    biases = fit_biases(users, items, ratings, n_users, n_items)
    # The same problem in one piece: ridge regression on one column for each user and each item.
    design = np.zeros((n, n_users + n_items))
    design[np.arange(n), users - 1] = 1
    design[np.arange(n), n_users + items - 1] = 1
    damping = np.diag([USER_DAMPING] * n_users + [ITEM_DAMPING] * n_items)
    target = ratings.astype(np.float64) - ratings.mean(dtype=np.float64)
    exact = np.linalg.solve(design.T @ design + damping, design.T @ target)
    # Ten rounds of alternating leave less than a thousandth of a rating.
    np.testing.assert_allclose(biases.user_biases[1:], exact[:n_users], atol=1e-3)
    np.testing.assert_allclose(biases.item_biases[1:], exact[n_users:], atol=1e-3)
    assert biases.item_biases[n_items] == 0
    assert biases.user_biases[0] == biases.item_biases[0] == 0


def test_one_order_for_everyone_leaves_out_what_is_excluded() -> None:
    recommend = same_for_everyone(popularity(np.array([2, 2, 3, 3, 3, 1, 4]), 5))
    # By count 3, 2, then 1 before 4 (equal counts: lower index first), 5 last.
    assert recommend(np.array([1, 2]), np.zeros((2, 0), np.int64), 3).tolist() == [[3, 2, 1]] * 2
    assert recommend(np.array([1, 2]), np.array([[3, 0], [1, 2]]), 3).tolist() == [[2, 1, 4], [3, 4, 5]]
    # Fewer items left than asked for: the tail is 0.
    assert recommend(np.array([1]), np.array([[1, 2, 3]]), 4).tolist() == [[4, 5, 0, 0]]
    assert recommend(np.array([1]), np.zeros((1, 0), np.int64), 7).tolist() == [[3, 2, 1, 4, 5, 0, 0]]
