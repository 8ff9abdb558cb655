"""Profiles on data whose right answer is provable: three tastes, planted, are found and told apart."""

from __future__ import annotations

import numpy as np
import planted_tastes
import pytest
import tiny_runs
from planted_tastes import N_TASTES, taste_of

from export.model.dot import DotArrays
from export.write.bundle import export_run
from export.write.profiles import N_PROFILES, _genres_apart, choose_profiles
from serve.runtime.profiles import Profiles
from serve.runtime.recommender import Recommender


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Profiles:
    """A whole bundle of the planted tastes, through the real export."""
    folder = tmp_path_factory.mktemp("planted")
    export_run(planted_tastes.make_run(folder / "run"), folder / "bundle")
    return Profiles.of(Recommender.load(folder / "bundle", "cpu"))


def test_planted_tastes_are_the_profiles(profiles: Profiles) -> None:
    """Three tastes give three profiles, though five were allowed: groups of equal users are not split."""
    users = [profile.user_index for profile in profiles.profiles]
    assert sorted(taste_of(np.array(users))) == [0, 1, 2]
    assert [profile.n_users for profile in profiles.profiles] == [10, 10, 10]


def test_a_profile_is_described_by_its_own_taste(profiles: Profiles) -> None:
    for profile in profiles.profiles:
        favourites = np.array([favourite.item_index for favourite in profile.favourites])
        assert set(taste_of(favourites).tolist()) == {int(taste_of(profile.user_index))}


def test_answers_lead_to_the_right_list(profiles: Profiles) -> None:
    """Likes of one taste and dislikes of the others: every item recommended is of that taste."""
    for taste in range(N_TASTES):
        answers = {
            question.item_index: "like" if taste_of(question.item_index) == taste else "dislike"
            for question in profiles.questions
        }
        place = profiles.match(answers)  # type: ignore[arg-type]
        assert place is not None
        assert taste_of(profiles.profiles[place].user_index) == taste
        # 16 or 17 items are of each taste; 3 at most were asked about.
        listed = profiles.recommend(place, 10, exclude_item_indices=list(answers)).item_indices
        assert set(taste_of(listed).tolist()) == {taste}


def test_two_questions_suffice_for_three_tastes(profiles: Profiles) -> None:
    """The questions come in order of what they tell: the first two are of different tastes."""
    first, second = (question.item_index for question in profiles.questions[:2])
    assert taste_of(first) != taste_of(second)
    told = {
        profiles.match({first: one, second: other})  # type: ignore[dict-item]
        for one, other in (("like", "dislike"), ("dislike", "like"), ("dislike", "dislike"))
    }
    assert told == {0, 1, 2}


def test_every_kind_of_model_has_profiles(tiny_bundle) -> None:
    for name in tiny_runs.CONFIGS:
        profiles = Profiles.of(Recommender.load(tiny_bundle(name), "cpu"))
        assert len(profiles.profiles) == N_PROFILES
        assert all(profile.favourites for profile in profiles.profiles)
        assert all(profile.genres for profile in profiles.profiles)


def make_arrays(rng: np.random.Generator, n_users: int, n_items: int) -> DotArrays:
    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return DotArrays(normal(n_users + 1, 4), normal(n_items + 1, 4), None, None, None)


def choose(arrays: DotArrays, n_user: np.ndarray, n_item: np.ndarray, genres=None):
    return choose_profiles(arrays, arrays.user_factors, n_user, n_item, 5.0, genres)


def test_only_users_and_items_with_ratings_count(rng) -> None:
    arrays = make_arrays(rng, 40, 30)
    n_user, n_item = np.zeros(41, int), np.zeros(31, int)
    n_user[[0, 3, 5, 8, 13, 21]] = 7
    n_item[[0, 2, 4, 6]] = 9
    chosen = choose(arrays, n_user, n_item)
    assert {profile.user_index for profile in chosen.profiles} <= {3, 5, 8, 13, 21}
    assert sum(profile.n_users for profile in chosen.profiles) == 5
    assert {question.item_index for question in chosen.questions} <= {2, 4, 6}
    assert all(profile.genres == [] for profile in chosen.profiles)


def test_one_user_is_one_profile_without_questions(rng) -> None:
    arrays = make_arrays(rng, 1, 30)
    chosen = choose(arrays, np.array([0, 3]), np.ones(31, int))
    assert [(profile.user_index, profile.n_users) for profile in chosen.profiles] == [(1, 1)]
    assert chosen.questions == []


def test_a_genre_counts_by_how_sure_its_mean_is() -> None:
    """16 items at 0.5 say more than 5 at 0.8, and 4 are too few; two profiles are opposites."""
    genres = ["A|B"] * 16 + ["C"] * 9 + ["D"] * 5 + ["E"] * 4
    lifts = np.repeat([0.5, -2.0, 0.8, 1.5], [16, 9, 5, 4])[None] * [[1.0], [-1.0]]
    known = np.arange(1, 35)
    assert _genres_apart(known, lifts, genres) == [["A", "B", "D"], ["C"]]
    assert _genres_apart(known, lifts[[0, 1, 0]], genres) == [["A", "B", "D"], ["C"], ["A", "D", "B"]]
    assert _genres_apart(known, lifts[:1], genres) == [["A", "B", "D"]]
    assert _genres_apart(known, lifts, None) == [[], []]
