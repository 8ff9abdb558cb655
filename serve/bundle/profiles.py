"""`profiles.json`: users who represent groups of users, and questions that assign a new user to a group."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from serve.bundle.bundle import Bundle
from serve.errors import BundleError

FORMAT_VERSION = 1
PROFILES_NAME = "profiles.json"


class Favourite(msgspec.Struct, frozen=True, kw_only=True):
    """An item that a profile likes better than the average user does."""

    item_index: int
    lift: float
    """The profile's score above the average user's (ratings), less the mean of that over well-known items."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A user who represents a group of similar users."""

    user_index: int
    n_users: int
    """Size of the group."""
    favourites: list[Favourite]
    """Well-known items, the highest lift first."""
    genres: list[str]
    """The genres that it likes more than the other profiles do, the surest first; no other profile begins
    with the same two. Empty where the data has none."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A well-known item on which the profiles differ."""

    item_index: int
    average_score: float
    """The average user's score (ratings)."""
    lifts: list[float]
    """The lift of each profile, in their order."""


class ProfilesFile(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of `profiles.json`."""

    format_version: int
    profiles: list[Profile]
    """The largest group first."""
    questions: list[Question]
    """The most telling first; each adds to those before it."""


def read_profiles(path: Path, n_users: int, n_items: int) -> ProfilesFile:
    """Read and check `profiles.json`, given the sizes of the model.

    Raises BundleError: not JSON of this form, or an index, a count or a figure that is out of range.
    """
    try:
        content = msgspec.json.decode(path.read_bytes(), type=ProfilesFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path} is not a list of profiles: {error}. Export the bundle again.") from None
    if wrong := _fault(content, n_users, n_items):
        raise BundleError(f"{path}: {wrong}. Export the bundle again.")
    return content


def check_profiles(bundle: Bundle) -> None:
    """Check the profiles of a bundle, if it has some. Raises BundleError: they are damaged."""
    if PROFILES_NAME in bundle.manifest.files:
        model = bundle.manifest.model
        read_profiles(bundle.file(PROFILES_NAME), model.n_users, model.n_items)


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
