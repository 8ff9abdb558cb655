"""Profiles: answers choose the nearest one, whose user the graphs rank for; damaged files are refused."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_bundles import FIXTURES

from serve.bundle.titles import displayed
from serve.errors import BundleError, RequestError, UnsupportedError
from serve.runtime.profiles import LIKE_SHARE, Profiles
from serve.runtime.recommender import Recommender
from serve.runtime.variety import Variety

from ..conftest import Run


def load(path: Path) -> Profiles:
    return Profiles.of(Recommender.load(path, "cpu"))


@pytest.fixture
def profiles(bundle_path: Path) -> Profiles:
    return load(bundle_path)


def test_a_profile_is_answered_as_its_user_is(profiles: Profiles) -> None:
    recommender = profiles.recommender
    assert len(profiles.profiles) > 1
    for place, profile in enumerate(profiles.profiles):
        user_id = recommender.users.one_id(profile.user_index)
        expected = recommender.recommend(user_id, 7, exclude_seen=False)
        found = profiles.recommend(place, 7)
        np.testing.assert_array_equal(found.item_indices, expected.item_indices)
        np.testing.assert_array_equal(found.scores, expected.scores)
        np.testing.assert_array_equal(found.item_ids, expected.item_ids)
        assert found.known is True
        assert found.count == 7


def test_what_is_known_already_is_left_out(profiles: Profiles) -> None:
    first = profiles.recommend(0, 5).item_indices.tolist()
    assert not set(first[:2]) & set(profiles.recommend(0, 5, exclude_item_indices=first[:2]).item_indices)


def test_a_profiles_list_is_varied_as_its_users_is(profiles: Profiles) -> None:
    recommender, variety = profiles.recommender, Variety(diversity=0.7, surprise=0.2)
    user_id = recommender.users.one_id(profiles.profiles[0].user_index)
    expected = recommender.recommend(user_id, 7, exclude_seen=False, variety=variety)
    found = profiles.recommend(0, 7, variety=variety)
    np.testing.assert_array_equal(found.item_indices, expected.item_indices)
    assert found.item_indices.tolist() != profiles.recommend(0, 7).item_indices.tolist()


def test_the_lifts_are_what_the_score_graph_says(profiles: Profiles) -> None:
    """Lift: the profile's score less the average user's, less the same mean over well-known items."""
    recommender = profiles.recommender
    items = np.array([question.item_index for question in profiles.questions])
    lifts = np.array([question.lifts for question in profiles.questions]).T  # [profiles, questions]
    average = recommender.score_indices(np.zeros(len(items), np.int64), items)
    np.testing.assert_allclose([q.average_score for q in profiles.questions], average, atol=1e-4)
    for profile, lift in zip(profiles.profiles, lifts, strict=True):
        scores = recommender.score_indices(np.full(len(items), profile.user_index), items)
        difference = scores - average - lift
        # What is left is the profile's general generosity: one number, the same for every item.
        np.testing.assert_allclose(difference, difference.mean(), atol=1e-4)


def test_a_profile_recognises_its_own_ratings(profiles: Profiles) -> None:
    """Somebody who rates as far from the average as a profile does, is that profile."""
    low, high = profiles.recommender.manifest.data.ratings_range
    if not profiles.recommender.predicts_ratings:
        return  # a rating and a score have no common scale
    for place in range(len(profiles.profiles)):
        answers = {
            question.item_index: question.average_score + question.lifts[place]
            for question in profiles.questions
        }
        if all(low <= answer <= high for answer in answers.values()):
            assert profiles.match(answers) == place


def test_without_answers_it_is_the_average_user(profiles: Profiles) -> None:
    recommender = profiles.recommender
    first = profiles.questions[0].item_index
    assert profiles.match({}) is None
    assert profiles.match({first: None}) is None
    found = profiles.recommend(None, 5)
    expected = recommender.rank(np.zeros(1, np.int64), 5).row(0)
    np.testing.assert_array_equal(found.item_indices, expected.indices)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.known is False


def test_a_like_is_a_rating_above_what_the_average_gives(profiles: Profiles) -> None:
    low, high = profiles.recommender.manifest.data.ratings_range
    if not profiles.recommender.predicts_ratings:  # the middle of the scale stands for the average
        middle, step = (low + high) / 2, LIKE_SHARE * (high - low)
        for index in (question.item_index for question in profiles.questions):
            assert profiles.match({index: "like"}) == profiles.match({index: middle + step})
            assert profiles.match({index: "dislike"}) == profiles.match({index: middle - step})
        return
    step = LIKE_SHARE * (high - low)
    compared = 0
    for question in profiles.questions:
        for answer, rating in (
            ("like", question.average_score + step),
            ("dislike", question.average_score - step),
        ):
            if low <= rating <= high:
                compared += 1
                assert profiles.match({question.item_index: answer}) == profiles.match(  # type: ignore[dict-item]
                    {question.item_index: rating}
                )
    assert compared


def test_invalid_answers_are_refused(profiles: Profiles) -> None:
    asked = {question.item_index for question in profiles.questions}
    other = next(index for index in range(1, 51) if index not in asked)
    first = profiles.questions[0].item_index
    with pytest.raises(RequestError, match="no question is about 'Movie"):
        profiles.match({other: "like"})
    with pytest.raises(RequestError, match="item index must lie in"):
        profiles.match({999: "like"})
    for wrong in (6.0, 0.0, float("nan"), float("inf"), "love"):
        with pytest.raises(RequestError):
            profiles.match({first: wrong})  # type: ignore[dict-item]
    for place in (-1, len(profiles.profiles)):
        with pytest.raises(RequestError, match="there are profiles"):
            profiles.recommend(place)
    with pytest.raises(RequestError, match="top_k"):
        profiles.recommend(0, 0)


def test_a_bundle_without_profiles_says_so(copy: Path, edit_manifest: Callable[..., None]) -> None:
    (copy / "profiles.json").unlink()
    edit_manifest(lambda manifest: manifest["files"].pop("profiles.json"))
    with pytest.raises(UnsupportedError, match="has no profiles"):
        load(copy)


SPOILT: dict[str, Callable[[dict[str, Any]], object]] = {
    "no profile": lambda content: content.update(profiles=[], questions=[]),
    "a user beyond the table": lambda content: content["profiles"][0].update(user_index=31),
    "user 0": lambda content: content["profiles"][0].update(user_index=0),
    "a favourite beyond the table": lambda content: content["profiles"][0]["favourites"][0].update(
        item_index=51
    ),
    "a negative question": lambda content: content["questions"][0].update(item_index=-1),
    "a lift too few": lambda content: content["questions"][0]["lifts"].pop(),
    "a question twice": lambda content: content["questions"].append(content["questions"][0]),
    "another version": lambda content: content.update(format_version=2),
    "a text for a number": lambda content: content["questions"][0].update(average_score="1"),
    "no questions": lambda content: content.pop("questions"),
    "infinity": lambda content: content["questions"][0].update(average_score=float("inf")),
}


@pytest.mark.parametrize(
    "damage", [*SPOILT.values(), b"", b"[]", b"\xff{}", b'{"format_version": 1e999}', b"[" * 100_000]
)
def test_a_damaged_file_is_refused(copy: Path, forge: Callable[[str, bytes], None], damage: Any) -> None:
    if isinstance(damage, bytes):
        forge("profiles.json", damage)
    else:
        content = json.loads((copy / "profiles.json").read_bytes())
        damage(content)
        forge("profiles.json", json.dumps(content).replace("Infinity", "1e999").encode())
    with pytest.raises(BundleError, match=r"profiles\.json"):
        load(copy)


def test_the_command_shows_profiles_and_questions(recsys: Run, bundle_path: Path, profiles: Profiles) -> None:
    shown = json.loads(recsys("profiles", bundle_path, "--json")[1])
    items = profiles.recommender.items
    assert [entry["profile"] for entry in shown["profiles"]] == [1, 2, 3, 4, 5]
    assert sum(entry["n_users"] for entry in shown["profiles"]) == 30
    assert [entry["item_id"] for entry in shown["questions"]] == [
        items[question.item_index].item_id for question in profiles.questions
    ]
    code, plain, _ = recsys("profiles", bundle_path)
    assert code == 0
    assert all(displayed(entry["title"]) in plain for entry in shown["questions"])


def test_the_command_takes_answers(recsys: Run) -> None:
    path = FIXTURES / "dot-bias"
    profiles = load(path)
    items = profiles.recommender.items
    first, second = (question.item_index for question in profiles.questions[:2])
    place = profiles.match({first: "like", second: 0.5})
    assert place is not None
    expected = profiles.recommend(place, 4, exclude_item_indices=[first, second])
    answers = ("--answer", f"{items.label(first)}=like", "--answer", f"{items[second].item_id}=0.5")
    answer = json.loads(recsys("profiles", path, "-k", 4, "--json", *answers)[1])
    assert answer["profile"] == place + 1
    assert [entry["item_id"] for entry in answer["items"]] == expected.item_ids.tolist()
    varied = recsys("profiles", path, "--profile", 1, "--diversity", 0.7, "--surprise", 0.2, "--json")
    wanted = profiles.recommend(0, variety=Variety(diversity=0.7, surprise=0.2))
    assert [entry["item_id"] for entry in json.loads(varied[1])["items"]] == wanted.item_ids.tolist()
    unseen = recsys("profiles", path, "--answer", f"{items.label(first)}=not seen")[1]
    assert unseen.startswith("Nothing is known of you: the average user's recommendations.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--answer", "Movie 1"], "is not TITLE_OR_ID=ANSWER"),
        (["--answer", "=like"], "is not TITLE_OR_ID=ANSWER"),
        (["--answer", "1001=lke"], "is not TITLE_OR_ID=ANSWER"),
        (["--answer", "No such thing=like"], "no item has the title or id"),
        (["--profile", "6"], "there are profiles 1 to 5, got 6"),
        (["--profile", "1", "--answer", "1001=like"], "either --answer or --profile"),
    ],
)
def test_the_command_refuses(recsys: Run, arguments: list[str], message: str) -> None:
    code, _, errors = recsys("profiles", FIXTURES / "dot-bias", *arguments)
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors


def test_on_a_terminal_the_questions_are_asked() -> None:
    """A real pseudo-terminal: one wrong answer is asked again, the rest is left empty."""
    path = FIXTURES / "dot-bias"
    profiles = load(path)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "recsys", "profiles", path]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, b"7\nlike\n" + b"\n" * (len(profiles.questions) - 1))
    output = b""
    try:
        while chunk := os.read(ours, 4096):
            output += chunk
    except OSError:  # how Linux says that the other side has left
        pass
    os.close(ours)
    assert process.wait() == 0
    text = output.decode()
    place = profiles.match({profiles.questions[0].item_index: "like"})
    assert place is not None
    assert "'7' is neither like, dislike, nor a rating from 0.5 to 5" in text
    assert f"Profile {place + 1}:" in text
