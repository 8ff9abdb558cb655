"""Recommendations for a new user by one of the bundle's profiles, chosen by a few answers.

A profile is a user of the bundle, the one in the middle of a group of similar users, so the graphs answer for
it as for any user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from serve.bundle.profiles import PROFILES_NAME, Profile, Question, read_profiles
from serve.errors import RequestError, UnsupportedError
from serve.runtime import validation

if TYPE_CHECKING:
    from serve.runtime.rankings import Ranking
    from serve.runtime.recommender import Recommender
    from serve.runtime.variety import Variety

# A like is above the average user's score by this share of the scale (of the span, where scores only order
# items); a dislike is as far below.
LIKE_SHARE = 0.25

Answer = float | Literal["like", "dislike"] | None
"""A rating on the data's scale, a like or a dislike; None: not seen."""


@dataclass(frozen=True, eq=False)
class Profiles:
    """The profiles of a bundle. Thread-safe."""

    profiles: list[Profile]
    questions: list[Question]
    recommender: Recommender

    @classmethod
    def of(cls, recommender: Recommender) -> Profiles:
        """The profiles of a bundle. Raises UnsupportedError: it has none; BundleError: they are damaged."""
        bundle = recommender.bundle
        if PROFILES_NAME not in bundle.manifest.files:
            raise UnsupportedError(f"{bundle.path} has no profiles. Export it again to get them.")
        model = bundle.manifest.model
        content = read_profiles(bundle.file(PROFILES_NAME), model.n_users, model.n_items)
        return cls(content.profiles, content.questions, recommender)

    def match(self, answers: Mapping[int, Answer]) -> int | None:
        """The position of the profile whose lifts are nearest to the answers less the average user's ratings.

        `answers` are by the item index of their question; None if there is none but "not seen".

        Raises RequestError: no question is about an item, or a value is no answer.
        """
        asked = {question.item_index: question for question in self.questions}
        distances = np.zeros(len(self.profiles))
        n_answers = 0
        for item_index, answer in answers.items():
            if item_index not in asked:
                label = self.recommender.items.label
                about = ", ".join(repr(label(index)) for index in asked)
                raise RequestError(f"no question is about {label(item_index)!r}; they are about {about}")
            question = asked[item_index]
            above = self._above_average(question, answer)
            if above is not None:
                distances += (above - np.array(question.lifts)) ** 2
                n_answers += 1
        return int(distances.argmin()) if n_answers else None

    def recommend(
        self,
        profile: int | None,
        top_k: int | None = None,
        *,
        exclude_item_indices: Sequence[int] = (),
        variety: Variety | None = None,
    ) -> Ranking:
        """The list of a profile (a position; None: the average user).

        `top_k` and `variety` are as for `Recommender.recommend`. Items that the profile's user has rated are
        not excluded: a new user has not seen them.

        Raises RequestError: there is no such profile, or a value is out of range.
        """
        if profile is not None and not 0 <= profile < len(self.profiles):
            raise RequestError(f"there are profiles 0 to {len(self.profiles) - 1}, got {profile!r}")
        user_index = np.array([0 if profile is None else self.profiles[profile].user_index])
        exclude = [np.array(exclude_item_indices, np.int64)]
        top = self.recommender.rank(
            user_index, top_k, exclude_seen=False, exclude_item_indices=exclude, variety=variety
        )
        return self.recommender.name(top.row(0), profile is not None)

    def _above_average(self, question: Question, answer: Answer) -> float | None:
        """An answer less what the average user thinks of the item, in the units of the scores."""
        manifest = self.recommender.manifest
        low, high = manifest.data.ratings_range
        is_rating = manifest.model.scores == "ratings"
        width = high - low if is_rating else manifest.model.score_span
        if answer is None:
            return None
        if answer in ("like", "dislike"):
            return LIKE_SHARE * width * (1 if answer == "like" else -1)
        rating = float(validation.ratings([answer], low, high)[0])
        if is_rating:
            return rating - question.average_score
        # A rating and a score have no common scale: the middle of the ratings' stands for the average.
        return width * ((rating - low) / (high - low) - 0.5) if high > low else 0.0
