"""Reasons: what each rating of a user adds to the score of an item, from `explain.onnx`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from serve.bundle.titles import displayed
from serve.errors import RequestError, UnsupportedError
from serve.runtime.answers import wrong_answer

if TYPE_CHECKING:
    from serve.bundle.items import Catalogue
    from serve.runtime.rankings import Ranking
    from serve.runtime.recommender import Recommender

N_REASONS = 3
"""Of an item, where nothing else is asked for."""
# Contributions of one run of the graph (16 MiB).
VALUES_PER_RUN = 1 << 22


class Reason(NamedTuple):
    """A rating that raises the score of an item."""

    item_id: int | str
    """The rated item"""
    title: str | None
    rating: float
    contribution: float
    """In the unit of the scores"""

    def __str__(self) -> str:
        return f"{self.item_id if self.title is None else displayed(self.title)} {self.rating:g}"


@dataclass(frozen=True, eq=False)
class Reasons:
    """How the scores of k items follow from a user's H ratings. Iterating gives each item's largest reasons.

    Scores are those of the ratings folded in as a new user's. A user of the training has a trained row
    instead, whose scores are near: `distances` says how near.
    """

    item_indices: np.ndarray
    """int64 [k], the items that are explained"""
    rated_indices: np.ndarray
    """int64 [H], the rated items"""
    ratings: np.ndarray
    """float32 [H]"""
    contributions: np.ndarray
    """float32 [k, H], in the unit of the scores; below 0 where a rating speaks against the item"""
    rest: np.ndarray
    """float32 [k]: what belongs to no rating"""
    row_scores: np.ndarray | None
    """float32 [k]: the scores by the trained row; None: a new user, or scores that nothing gives"""
    catalogue: Catalogue = field(repr=False)

    @property
    def scores(self) -> np.ndarray:
        """The scores that are explained, rest + sum of contributions: float64 [k]."""
        total: np.ndarray = self.rest + self.contributions.sum(axis=1, dtype=np.float64)
        return total

    @property
    def distances(self) -> np.ndarray | None:
        """By how much the trained row's scores are above these: float64 [k]; None: there is no such row."""
        return None if self.row_scores is None else self.row_scores - self.scores

    def __len__(self) -> int:
        return len(self.item_indices)

    def __iter__(self) -> Iterator[list[Reason]]:
        return map(self.of, range(len(self)))

    def of(self, place: int, n: int = N_REASONS) -> list[Reason]:
        """The at most `n` ratings that raise the score at a place most, the largest contribution first."""
        row = self.contributions[place]
        best = np.argsort(-row, kind="stable")[:n]
        items = [self.catalogue[index] for index in self.rated_indices[best].tolist()]
        return [
            Reason(item.item_id, item.title, rating, contribution)
            for item, rating, contribution in zip(
                items, self.ratings[best].tolist(), row[best].tolist(), strict=True
            )
            if contribution > 0
        ]

    def described(self, place: int, n: int = N_REASONS) -> dict[str, Any]:
        """The reasons of one item as JSON has them."""
        return {
            "because": [reason._asdict() for reason in self.of(place, n)],
            "rest": float(self.rest[place]),
            "explained_score": float(self.scores[place]),
        }


def explain(
    recommender: Recommender,
    rated_indices: np.ndarray,
    ratings: np.ndarray,
    item_indices: np.ndarray,
    row_scores: np.ndarray | None = None,
) -> Reasons:
    """Explain the scores of some items for one user.

    Args:
        recommender: the bundle.
        rated_indices: int64 [H], checked; none twice.
        ratings: float32 [H].
        item_indices: int64 [k], checked.
        row_scores: see `Reasons`.

    Raises:
        BundleError: the graph does not answer as it must.
    """
    n = len(rated_indices)
    rated = np.zeros((1, max(1, n)), np.int64)
    given = np.zeros((1, max(1, n)), np.float32)
    rated[0, :n], given[0, :n] = rated_indices, ratings
    contributions = np.empty((len(item_indices), n), np.float32)
    rest = np.empty(len(item_indices), np.float32)
    step = max(1, VALUES_PER_RUN // rated.size)
    for start in range(0, len(item_indices), step):
        part = slice(start, start + step)
        asked = item_indices[None, part]
        found = recommender.run_graph(
            "explain", {"item_indices": rated, "ratings": given, "explained_item_indices": asked}
        )
        shape = (1, asked.shape[1], rated.shape[1])
        if found["contributions"].shape != shape or found["rest"].shape != shape[:2]:
            raise wrong_answer("explain", f"contributions of {found['contributions'].shape}, not {shape}")
        contributions[part], rest[part] = found["contributions"][0, :, :n], found["rest"][0]
    if not (np.isfinite(contributions).all() and np.isfinite(rest).all()):
        raise wrong_answer("explain", "contributions that are not finite")
    return Reasons(item_indices, rated_indices, ratings, contributions, rest, row_scores, recommender.items)


def with_reasons(
    ranking: Ranking, recommender: Recommender, rated: np.ndarray, ratings: np.ndarray, has_row: bool = False
) -> Ranking:
    """One user's list with its reasons: items int64 [H] and ratings float32 [H].

    `has_row`: the list is by a row of the bundle's tables, not by the ratings.
    """
    n = int(ranking.count)
    row_scores = ranking.scores[:n] if has_row else None
    found = explain(recommender, rated, ratings, ranking.item_indices[:n], row_scores)
    return replace(ranking, reasons=found)


def check_explainable(recommender: Recommender, one: bool) -> None:
    """Whether there are reasons for a request, of `one` user or of several.

    Raises:
        RequestError: several users.
        UnsupportedError: the bundle has no reasons.
    """
    if not one:
        raise RequestError("reasons are for one user: ask for each user alone")
    manifest = recommender.manifest
    if "explain" in manifest.graphs:
        return
    if why := manifest.left_out.get("explain") or _network(recommender):
        raise UnsupportedError(f"this bundle gives no reasons: {why}")
    raise UnsupportedError(
        "this bundle has no explain.onnx, which gives reasons: export its run again with "
        "`recsys export --explain`"
    )


def _network(recommender: Recommender) -> str | None:
    model = recommender.manifest.model
    if model.kind == "mlp" and model.ranking is None:
        return "the score of a network is no sum of what each rating adds"
    return None
