"""Bayesian matrix factorisation, fitted by Gibbs sampling: the best predicted ratings of these kinds.

A user is a vector p and a bias b, an item likewise, and a rating is p . q + b_user + b_item + noise. Rows are
drawn from a normal distribution whose mean depends on features of the user or item: which items the user has
rated (Koren 2008), and genres and years of items. Means, covariances and noise are drawn too, so nothing has
to be tuned (Salakhutdinov and Mnih 2008; features as in Macau, Simm et al. 2015). Factors rotate between
draws, so the *scores* are averaged, and a truncated SVD of their mean gives the tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys.errors import ConfigError
from recsys.models.kind import Kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from recsys.data.interactions import Interactions

# Singular vectors of the features that the prior means are regressed on: on MovieLens 100K, 200 of them
# predict as well as all 943.
MAX_FEATURES = 200
# Ratings whose outer products are in memory at once.
RATINGS_AT_ONCE = 1 << 16
# Scores of every user for every item that are summed one by one (float64: 256 MiB).
MAX_DENSE = 1 << 25
# Draws are added to it together: one product of this width costs little more than one of a single draw.
DENSE_WIDTH = 256
# Beyond, their sum is a product of at most this width; where it gets wider, it is truncated to half.
MAX_WIDTH = 1024
# How often a fit says how far it is.
REPORTS = 10


@dataclass(frozen=True)
class BayesConfig:
    """Settings of a `bayes` model."""

    n_factors: int = 24
    """Columns of the tables: the rank that the mean of the scores is truncated to."""
    n_sampled_factors: int = 12
    """Factors of each draw."""
    iterations: int = 300
    """Draws, those of the burn-in among them."""
    burn_in: int = 25
    """First draws, which are not averaged."""
    history: bool = True
    """Whether prior means depend on which items a user has rated, and on who has rated an item."""
    attributes: bool = True
    """Whether they depend on what the data knows of users and items, such as genres."""

    def __post_init__(self) -> None:
        if min(self.n_factors, self.n_sampled_factors) < 1:
            raise ConfigError("bayes: at least 1 factor is needed")
        if not 0 <= self.burn_in < self.iterations:
            raise ConfigError(f"bayes: {self.burn_in} draws of burn-in leave none of {self.iterations}")


def build(config: BayesConfig, n_users: int, n_items: int) -> nn.Module:
    """Build the product of the truncated tables; the users' biases are inside their factors."""
    from recsys.models.modules import DotProduct

    return DotProduct(n_users, n_items, config.n_factors, biases="items")


def fit(
    ratings: Interactions,
    config: BayesConfig,
    *,
    seed: int,
    device: torch.device,
    on_progress: Callable[[int, int], None],
    on_iteration: Callable[[Mapping[str, float]], None],
) -> dict[str, np.ndarray]:
    """See `recsys.models.kind.Fit`."""
    import torch

    from recsys.data.features import binary_features

    draws = Draws(seed, device)
    mean = float(ratings.ratings.mean(dtype=np.float64))
    scale = float(ratings.ratings.std(dtype=np.float64)) or 1.0
    observed = torch.from_numpy((ratings.ratings - mean) / scale).float().to(device)
    index = [torch.from_numpy(side.astype(np.int64) - 1) for side in (ratings.user_index, ratings.item_index)]
    sizes = (ratings.n_users, ratings.n_items)
    user, item = (side.to(device) for side in index)
    history = torch.sparse_coo_tensor(
        torch.stack([user, item]), torch.ones_like(observed), sizes, check_invariants=False
    )
    attributes = [torch.from_numpy(binary_features(table)) for table in (ratings.users, ratings.items)]
    sides = [
        _Side(user, item, sizes[0], _features(history, attributes[0], config), config, draws),
        _Side(item, user, sizes[1], _features(history.t(), attributes[1], config), config, draws),
    ]
    noise = 1.0  # precision
    total = _ScoreSum(*sizes, device)
    for number in range(config.iterations):
        on_progress(number, config.iterations)
        for side, other in (sides, sides[::-1]):
            side.draw(observed, other.rows, noise, draws)
        users, items = (side.rows for side in sides)
        errors = observed - (users[user, :-1] * items[item, :-1]).sum(1) - users[user, -1] - items[item, -1]
        squares = float(errors.double().square().sum())
        noise = draws.gamma(0.5 * (1 + len(observed)), 0.5 * (1 + squares))
        if (number + 1) % max(1, config.iterations // REPORTS) == 0:
            on_iteration({"train_rmse": scale * math.sqrt(squares / len(observed))})
        if number >= config.burn_in:
            one_of_users, one_of_items = torch.ones_like(users[:, :1]), torch.ones_like(items[:, :1])
            total.add(
                torch.cat([users, one_of_users], 1),  # [p, b, 1]
                torch.cat([items[:, :-1], one_of_items, items[:, -1:]], 1),  # [q, 1, b]
            )
    of_users, of_items, biases = total.tables(config.n_factors)
    return {
        "user_factors": _with_row_0(of_users),
        "item_factors": _with_row_0(scale * of_items),
        "item_biases": _with_row_0(scale * biases[:, None] + mean),
    }


class Draws:
    """Random numbers: large draws on the device, small ones in float64 on the host."""

    def __init__(self, seed: int, device: torch.device) -> None:
        import torch

        self.torch = torch.Generator(device).manual_seed(seed)
        self.numpy = np.random.default_rng(seed)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, float32."""
        import torch

        return torch.randn(shape, generator=self.torch, device=self.torch.device)

    def gamma(self, shape: float, rate: float) -> float:
        """A number of the gamma distribution."""
        return float(self.numpy.gamma(shape, 1 / rate))


class _Side:
    """Users, or items: their rows [n, F + 1], bias last, and the prior that the rows are drawn from."""

    def __init__(
        self,
        index: Tensor,
        others: Tensor,
        n: int,
        features: tuple[Tensor, Tensor],
        config: BayesConfig,
        draws: Draws,
    ) -> None:
        import torch

        self.width = config.n_sampled_factors + 1
        self.order = torch.argsort(index, stable=True)
        self.others = others[self.order]
        self.blocks = list(_padded_blocks(torch.bincount(index, minlength=n)))
        self.rows = 0.1 * draws.normal(n, self.width)
        self.directions, self.strengths = features  # U [n, R] and S [R] of the features' SVD
        self.weights = torch.zeros_like(self.rows[:1]).repeat(len(self.strengths), 1)
        self.weight_precision = 1.0

    def draw(self, observed: Tensor, other: Tensor, noise: float, draws: Draws) -> None:
        """Draw all rows, given the other side's rows [m, F + 1] and the precision of the noise."""
        import torch

        mean, precision = self._draw_prior(draws)
        n, width = self.rows.shape
        gram = torch.zeros(n, width, width, device=self.rows.device)
        target = torch.zeros(n, width, device=self.rows.device)
        rows = other[self.others]  # [n_ratings, q and b]
        residual = observed[self.order] - rows[:, -1]
        rows[:, -1] = 1.0
        rows = torch.cat([rows, torch.zeros_like(rows[:1])])  # the last one pads
        residual = torch.cat([residual, residual.new_zeros(1)])
        for owners, places in self.blocks:
            padded = rows[places]  # [n, L, q and 1]
            gram[owners] = padded.mT @ padded
            target[owners] = (padded.mT @ residual[places][:, :, None]).squeeze(2)
        factor = torch.linalg.cholesky(noise * gram + precision)
        solved = torch.cholesky_solve((noise * target + mean @ precision)[:, :, None], factor)
        noises = draws.normal(n, width, 1)
        self.rows = (solved + torch.linalg.solve_triangular(factor.mT, noises, upper=True)).squeeze(2)

    def _draw_prior(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """The rows' prior means [n, F + 1] and precision [F + 1, F + 1], drawn given the rows."""
        import torch

        n, width = self.rows.shape
        residual = self.rows - self._regressed()
        centre = residual.mean(0)
        pull = 2.0  # observations that the prior of the mean, 0, counts for
        scatter = torch.eye(width, device=self.rows.device) + (residual - centre).T @ (residual - centre)
        scatter += pull * n / (pull + n) * torch.outer(centre, centre)
        scatter += self.weight_precision * self.weights.T @ self.weights
        precision = _wishart(scatter, width + n + len(self.weights), draws)
        spread = torch.linalg.cholesky(torch.linalg.inv(precision))

        mean = n * centre / (pull + n) + spread @ draws.normal(width) / math.sqrt(pull + n)
        s = self.strengths[:, None]
        projected = s * (self.directions.T @ (self.rows - mean) + draws.normal(len(s), width) @ spread.T)
        projected += math.sqrt(self.weight_precision) * draws.normal(len(s), width) @ spread.T
        self.weights = projected / (s**2 + self.weight_precision)
        size = float(torch.einsum("rf,fg,rg->", self.weights, precision, self.weights))
        self.weight_precision = draws.gamma(0.5 * (1 + self.weights.numel()), 0.5 * (1 + size))
        return mean + self._regressed(), precision

    def _regressed(self) -> Tensor:
        return self.directions @ (self.strengths[:, None] * self.weights)


def _padded_blocks(counts: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Places of ratings that are sorted by their owner, in blocks of owners with about as many ratings.

    Args:
        counts: int64 [n], ratings of each owner.

    Yields:
        Owners int64 [B], and the places of their ratings int64 [B, L]; one past the last place pads.
    """
    import torch

    starts = counts.cumsum(0) - counts
    lengths = 2 ** torch.log2(counts.clamp(min=1).double()).ceil().long()
    for length in sorted(set(lengths[counts > 0].tolist())):
        owners = torch.nonzero((counts > 0) & (lengths == length)).flatten()
        number = torch.arange(length, device=counts.device)
        for some in torch.split(owners, max(1, RATINGS_AT_ONCE // length)):
            places = torch.where(number < counts[some, None], starts[some, None] + number, counts.sum())
            yield some, places


class _ScoreSum:
    """The sum of the draws' scores: dense where that is small, else a product of bounded width."""

    def __init__(self, n_users: int, n_items: int, device: torch.device) -> None:
        import torch

        self.dense: Tensor | None = None
        if n_users * n_items <= MAX_DENSE:
            self.dense = torch.zeros(n_users, n_items, dtype=torch.float64, device=device)
        self.n = 0
        self.left: list[Tensor] = []
        self.right: list[Tensor] = []

    def add(self, left: Tensor, right: Tensor) -> None:
        """Add left [n_users, W] @ right' [W, n_items]."""
        self.n += 1
        self.left.append(left.double())
        self.right.append(right.double())
        width = sum(part.shape[1] for part in self.left)
        if self.dense is not None and width > DENSE_WIDTH:
            self._flush(self.dense)
        elif width > MAX_WIDTH:
            u, s, v = _product_svd(*self._product())
            keep = MAX_WIDTH // 2
            self.left, self.right = [u[:, :keep] * s[:keep]], [v[:, :keep]]

    def tables(self, rank: int) -> tuple[Tensor, Tensor, Tensor]:
        """The mean of the scores as users' factors [n_users, rank], items' [n_items, rank] and item means.

        The users' factors have mean 0 and covariance I, so the average user's row is 0, and the ridge that
        folds new users in has the right prior.
        """
        import torch

        if self.dense is not None:
            self._flush(self.dense)
            mean_scores = self.dense / self.n
            means = mean_scores.mean(0)
            u, s, v = _top_svd(mean_scores - means, rank)
        else:
            left, right = self._product()
            means = right @ left.mean(0) / self.n
            u, s, v = _product_svd((left - left.mean(0)) / self.n, right)
        kept, spread = min(rank, len(s)), math.sqrt(len(u))
        padding = (0, rank - kept)  # a catalogue with fewer users or items than the rank
        of_users = torch.nn.functional.pad(spread * u[:, :kept], padding)
        of_items = torch.nn.functional.pad(v[:, :kept] * s[:kept] / spread, padding)
        return of_users, of_items, means

    def _product(self) -> tuple[Tensor, Tensor]:
        import torch

        return torch.cat(self.left, 1), torch.cat(self.right, 1)

    def _flush(self, dense: Tensor) -> None:
        if self.left:
            left, right = self._product()
            dense.addmm_(left, right.T)
            self.left, self.right = [], []


def _top_svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The largest singular values and vectors of a float64 matrix, by the Gram matrix of its shorter side."""
    import torch

    if len(matrix) > matrix.shape[1]:
        v, s, u = _top_svd(matrix.T, rank)
        return u, s, v
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    s, u = values.flip(0)[:rank].clamp(min=0).sqrt(), vectors.flip(1)[:, :rank]
    return u, s, matrix.T @ u / s.clamp(min=1e-12 * s[0])


def _product_svd(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, S and V of left @ right', by thin QR: the product itself is never in memory."""
    import torch

    (q_left, r_left), (q_right, r_right) = torch.linalg.qr(left), torch.linalg.qr(right)
    u, s, v = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    return q_left @ u, s, q_right @ v.T


def _features(history: Tensor, attributes: Tensor, config: BayesConfig) -> tuple[Tensor, Tensor]:
    """The largest singular vectors [n, R] and values [R] of centred features.

    Args:
        history: sparse [n, m], 1 where a training rating is.
        attributes: dense [n, A].
        config: which of them count.
    """
    import torch

    from recsys.models.truncated_svd import OVERSAMPLING, truncated_svd

    columns = []
    if config.history:
        n_each = torch.sparse.sum(history, 1).to_dense().clamp(min=1.0)
        history = history.coalesce()
        values = history.values() / n_each[history.indices()[0]].sqrt()
        columns.append(
            torch.sparse_coo_tensor(history.indices(), values, history.shape, check_invariants=False)
        )
    if config.attributes and attributes.shape[1]:
        columns.append(attributes.to(history.device).to_sparse())
    if not columns:
        return torch.zeros(len(attributes), 0, device=history.device), torch.zeros(0, device=history.device)
    features = torch.cat(columns, 1).coalesce()
    transposed = features.t().coalesce()
    means = torch.sparse.sum(features, 0).to_dense() / len(features)
    rank = min(MAX_FEATURES, *features.shape)
    start = torch.randn(
        features.shape[1],
        min(rank + OVERSAMPLING, *features.shape),
        generator=torch.Generator().manual_seed(0),
    )
    # The means are subtracted from the products: without its zeros the matrix would fill the memory.
    u, s, _ = truncated_svd(
        lambda table: features @ table - means @ table,
        lambda table: transposed @ table - torch.outer(means, table.sum(0)),
        start.to(features.device),
        rank,
    )
    kept = s > 1e-6 * s[0]
    return u[:, kept].contiguous(), s[kept]


def _wishart(inverse_scale: Tensor, degrees: int, draws: Draws) -> Tensor:
    """Draw a precision matrix by Bartlett's decomposition."""
    import torch

    width = len(inverse_scale)
    scale = np.linalg.inv(inverse_scale.double().cpu().numpy())
    lower = np.linalg.cholesky((scale + scale.T) / 2)
    bartlett = np.tril(draws.numpy.standard_normal((width, width)), -1)
    bartlett += np.diag(np.sqrt(draws.numpy.chisquare(degrees - np.arange(width))))
    product = lower @ bartlett
    return torch.from_numpy(product @ product.T).to(inverse_scale)


def _with_row_0(rows: Tensor) -> np.ndarray:
    """The rows below a row 0, which the training fills: [n, F] -> float32 [1 + n, F]."""
    import torch

    found: np.ndarray = torch.cat([rows[:1], rows]).float().cpu().numpy()
    return found


def memory(config: BayesConfig, n_users: int, n_items: int, n_ratings: int) -> int:
    """See `Kind.memory`: of each row its features, its Gram matrices and the sum of its draws."""
    width = config.n_sampled_factors + 1
    row = 4 * (3 * width**2 + 2 * MAX_FEATURES)
    row += 4 * 2 * min(MAX_WIDTH, width * config.iterations, n_users, n_items)
    return row * (n_users + n_items) + 100 * n_ratings


KIND = Kind("bayes", BayesConfig, build, fit=fit, memory=memory, fits_untrained_rows=True)
