"""`profiles.json`: premade tastes for somebody new, and the questions that tell which one is theirs.

A profile is a user of the bundle: the one in the middle of a group of similar users. So the graphs answer for
it as for any user, whatever the kind of model and whatever the runtime.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from serve.errors import BundleError, RequestError, UnsupportedError
from serve.runtime import validation

if TYPE_CHECKING:
    from serve.runtime.recommender import Ranking, Recommender

FORMAT_VERSION = 1
PROFILES_NAME = "profiles.json"
# A like is a rating this share of the scale above what the average user would give; a dislike as far below.
LIKE_SHARE = 0.25

Answer = float | Literal["like", "dislike"] | None
"""A rating on the data's scale, or less than one; None: not seen."""


class Favourite(msgspec.Struct, frozen=True, kw_only=True):
    """An item that a profile likes better than the average user does."""

    item_index: int
    lift: float
    """By how much (ratings), the profile's general generosity aside."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A taste: that of one user, who stands for a group."""

    user_index: int
    n_users: int
    """Size of the group."""
    favourites: list[Favourite]
    """Well-known items, the highest lift first."""
    genres: list[str]
    """The genres with the highest mean lift, highest first; empty where the data has none."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A well-known item on which the profiles differ."""

    item_index: int
    average_score: float
    """What the average user would give (ratings)."""
    lifts: list[float]
    """The lift of each profile, in their order."""


class ProfilesFile(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of `profiles.json`."""

    format_version: int
    profiles: list[Profile]
    """The largest group first."""
    questions: list[Question]
    """The most telling first; each adds to those before it."""


@dataclass(frozen=True, eq=False)
class Profiles:
    """The profiles of a bundle, ready to answer. Thread-safe."""

    profiles: list[Profile]
    questions: list[Question]
    recommender: Recommender

    @classmethod
    def of(cls, recommender: Recommender) -> Profiles:
        """The profiles in a recommender's bundle.

        Raises:
            UnsupportedError: the bundle has none.
            BundleError: the file is not what it should be.
        """
        bundle = recommender.bundle
        if PROFILES_NAME not in bundle.manifest.files:
            raise UnsupportedError(f"{bundle.path} has no profiles. Export it again to get them.")
        path = bundle.file(PROFILES_NAME)
        try:
            content = msgspec.json.decode(path.read_bytes(), type=ProfilesFile)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BundleError(
                f"{path} is not a list of profiles: {error}. Export the bundle again."
            ) from None
        model = bundle.manifest.model
        if wrong := _fault(content, model.n_users, model.n_items):
            raise BundleError(f"{path}: {wrong}. Export the bundle again.")
        return cls(content.profiles, content.questions, recommender)

    def match(self, answers: Mapping[int, Answer]) -> int | None:
        """The profile whose lifts lie nearest to the answers: its place in `profiles`.

        An answer counts by how far it lies above what the average user would give. None where nothing was
        answered, or only with "not seen": then nothing is known, and the average user it is.

        Args:
            answers: Item index of a question -> the answer to it.

        Raises:
            RequestError: no question is about that item, or an answer is none.
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
        self, profile: int | None, top_k: int | None = None, *, exclude_item_indices: Sequence[int] = ()
    ) -> Ranking:
        """The list of a profile, or with None of the average user.

        What the profile's own user has rated is not left out: somebody new has not seen it.

        Args:
            profile: A place in `profiles`, or None.
            top_k: Length of the list; None: ten, or all that the bundle ranks.
            exclude_item_indices: Items to leave out, such as those that were rated in the answers.

        Raises:
            RequestError: there is no such profile, or values out of range.
        """
        from serve.runtime.recommender import Ranking

        if profile is not None and not 0 <= profile < len(self.profiles):
            raise RequestError(f"there are profiles 0 to {len(self.profiles) - 1}, got {profile!r}")
        top_k = self.recommender.list_length(top_k, "recommend")
        user_index = 0 if profile is None else self.profiles[profile].user_index
        exclude = np.array([exclude_item_indices], np.int64)
        tops, scores = self.recommender.recommend_indices(np.array([user_index]), exclude)
        top = tops[0, :top_k]
        ids = self.recommender.items.ids.ids(top)
        return Ranking(ids, top, scores[0, :top_k], profile is not None, int(np.count_nonzero(top)))

    def _above_average(self, question: Question, answer: Answer) -> float | None:
        """How far an answer lies above the average user's rating (ratings)."""
        low, high = self.recommender.manifest.data.ratings_range
        if answer is None:
            return None
        if answer in ("like", "dislike"):
            return LIKE_SHARE * (high - low) * (1 if answer == "like" else -1)
        return float(validation.ratings([answer], low, high)[0]) - question.average_score


def _fault(content: ProfilesFile, n_users: int, n_items: int) -> str | None:
    """What is wrong with a file whose types are right."""
    if content.format_version != FORMAT_VERSION:
        return f"format version {content.format_version}, this reader knows {FORMAT_VERSION}"
    users = [profile.user_index for profile in content.profiles]
    favourites = [favourite for profile in content.profiles for favourite in profile.favourites]
    items = [question.item_index for question in content.questions]
    figures = [favourite.lift for favourite in favourites]
    for question in content.questions:
        figures += [question.average_score, *question.lifts]
        if len(question.lifts) != len(content.profiles):
            return f"{len(question.lifts)} lifts for {len(content.profiles)} profiles"
    if not content.profiles:
        return "it lists no profile"
    if wrong := [index for index in users if not 1 <= index <= n_users]:
        return f"user index {wrong[0]} is not in 1 to {n_users}"
    every_item = [*items, *(favourite.item_index for favourite in favourites)]
    if wrong := [index for index in every_item if not 1 <= index <= n_items]:
        return f"item index {wrong[0]} is not in 1 to {n_items}"
    if len(set(items)) != len(items):
        return "a question comes twice"
    if not all(map(math.isfinite, figures)):
        return "a figure is not finite"
    return None
