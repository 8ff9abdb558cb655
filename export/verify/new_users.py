"""Users held out whole, folded in through `fold_in.onnx`. Needs no torch, and none of what export needs."""

from __future__ import annotations

import numpy as np

from export.model.score_range import to_range
from recsys.data.interactions import Interactions
from recsys.data.splits import Split
from recsys.evaluation.ranking import RatedItems
from serve.runtime.recommender import Recommender
from serve.runtime.validation import padded

# Users of one run of the graph: each has a row of scores of all items.
USERS_AT_ONCE = 64


class NewUsers:
    """Answers for users whose ratings on the training side of `sides` are given, as if they were new."""

    def __init__(self, recommender: Recommender, interactions: Interactions, sides: Split) -> None:
        self._recommender = recommender
        self._n_items = interactions.n_items
        users = interactions.user_index[sides.train]
        self._items = RatedItems.of(users, interactions.item_index[sides.train], interactions.n_users)
        order = np.argsort(users, kind="stable")
        self._ratings = interactions.ratings[sides.train][order]
        outputs = {output.name for output in recommender.manifest.graphs["fold_in"].outputs}
        of_scores = recommender.manifest.model.lists == "ratings"
        self._prefix = "user" if of_scores else "rating"
        method = recommender.manifest.fold_in and recommender.manifest.fold_in.method
        self.predict_ratings = method == "ridge" and f"{self._prefix}_factors" in outputs
        """Whether the graph gives the rows that, times the items' factors, predict ratings."""

    def recommend(self, user_index: np.ndarray, exclude_item_indices: np.ndarray, k: int) -> np.ndarray:
        """The lists of users int64 [B], without their given items, which are those to exclude.

        Returns int64 [B, k], 0-padded.
        """
        ids = self._recommender.items.ids
        given = [self._given(user) for user in user_index.tolist()]
        item_ids = [ids.ids(items).tolist() for items, _ in given]
        ratings = [values.tolist() for _, values in given]
        return self._recommender.fold_in(item_ids, ratings, k).item_indices

    def score(self, user_index: np.ndarray, item_index: np.ndarray) -> np.ndarray:
        """The predicted ratings of pairs: int64 [n], int64 [n] -> float64 [n]."""
        bundle, score_range = self._recommender.bundle, self._recommender.manifest.model.score_range
        factors = bundle.table("item_factors").astype(np.float64)
        has_biases = any(table.name == "item_biases" for table in bundle.manifest.tables)
        biases = (
            bundle.table("item_biases")[:, 0].astype(np.float64) if has_biases else np.zeros(len(factors))
        )
        scores: np.ndarray = biases[item_index]
        users, place = np.unique(user_index, return_inverse=True)
        for start in range(0, len(users), USERS_AT_ONCE):
            given = [self._given(user) for user in users[start : start + USERS_AT_ONCE].tolist()]
            feeds = {
                "item_indices": padded([items for items, _ in given], np.int64),
                "ratings": padded([values for _, values in given], np.float32),
            }
            rows = self._recommender.run_graph("fold_in", feeds)
            pairs = np.flatnonzero((place >= start) & (place < start + USERS_AT_ONCE))
            row = place[pairs] - start
            user_factors = rows[f"{self._prefix}_factors"].astype(np.float64)
            scores[pairs] += np.sum(user_factors[row] * factors[item_index[pairs]], axis=1)
            if f"{self._prefix}_biases" in rows:
                scores[pairs] += rows[f"{self._prefix}_biases"][row, 0]
        return to_range(scores, score_range)

    def _given(self, user: int) -> tuple[np.ndarray, np.ndarray]:
        """The given items of a user, int64 [H], and their ratings, float32 [H]."""
        place = slice(*self._items.offsets[[user, user + 1]])
        return self._items.item_index[place], self._ratings[place]
