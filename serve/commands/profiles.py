"""`recsys profiles`: recommendations for a new user by the profile that fits a few answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serve.bundle.titles import displayed
from serve.commands import variety_options
from serve.commands.options import (
    alternatives,
    bundle_argument,
    device_option,
    item_fields,
    item_values,
    json_option,
    load,
    print_json,
    print_recommended,
    top_k_option,
)
from serve.reading.cells import parse_number
from serve.reading.options import IntegerRange
from serve.terminal import printable

if TYPE_CHECKING:
    from serve.bundle.items import Catalogue
    from serve.runtime.profiles import Answer, Profiles

N_SHOWN = 4


def _parse_answer(text: str) -> Answer:
    """Raises ValueError: the text is no answer."""
    text = text.strip().casefold()
    if text in ("", "-", "not seen"):
        return None
    return text if text in ("like", "dislike") else parse_number(text)  # type: ignore[return-value]


def _parse_answers(
    context: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> list[tuple[str, Answer]]:
    form = "TITLE_OR_ID=ANSWER, such as 'Heat (1995)=like', '=dislike', '=4.5' or '=not seen'"
    return item_values(values, _parse_answer, form)


@click.command()
@bundle_argument
@click.option(
    "--answer",
    "answers",
    callback=_parse_answers,
    multiple=True,
    metavar="TITLE_OR_ID=ANSWER",
    help="An answer to one of the questions: like, dislike, not seen, or a rating; repeat it.",
)
@click.option("--profile", type=IntegerRange(min=1), help="Recommend to this profile, without questions.")
@variety_options.variety_options
@top_k_option
@device_option
@json_option
def profiles(
    bundle: Path,
    answers: list[tuple[str, Answer]],
    profile: int | None,
    top_k: int | None,
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Show the profiles of BUNDLE and its questions; recommend by the profile that fits the answers.

    A profile is a user of the bundle who stands for a group of similar users. On a terminal, the questions
    are asked; an empty answer means "not seen".

    \b
      recsys profiles artifacts/default
      recsys profiles artifacts/default --answer "Ghost (1990)=like" --answer "Fargo (1996)=dislike"
      recsys profiles artifacts/default --profile 2
    """
    answers, profile = alternatives("answers", "profile")
    if answers and profile is not None:
        raise click.UsageError("Give either --answer or --profile.")
    from serve.errors import RequestError
    from serve.runtime.profiles import Profiles

    variety = variety_options.variety_of(options)
    recommender = load(bundle, device)
    known = Profiles.of(recommender)
    items = recommender.items
    if profile is not None and profile > len(known.profiles):
        raise RequestError(f"there are profiles 1 to {len(known.profiles)}, got {profile}")
    given: dict[int, Answer] = {}
    for text, answer in answers or []:
        index = items.resolve(text)
        if index in given:
            raise RequestError(f"{items.label(index)!r} is answered more than once")
        given[index] = answer
    if profile is None and not answers:
        shown = _shown(known, items)
        if as_json:
            print_json(shown)
            return
        _print_profiles(shown)
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            return
        given = _ask(known, items)
    place = known.match(given) if profile is None else profile - 1
    answered = [index for index, answer in given.items() if answer is not None]
    ranking = known.recommend(place, top_k, exclude_item_indices=answered, variety=variety)
    number = None if place is None else place + 1
    if not as_json:
        average = "Nothing is known of you: the average user's recommendations."
        click.echo(f"{average if number is None else f'Profile {number}:'}\n")
    print_recommended(ranking, recommender, as_json, variety is not None, profile=number)


def _shown(known: Profiles, items: Catalogue) -> dict[str, Any]:
    """The object that `--json` prints: profiles, numbered from 1, and questions, with ids and titles."""
    users = known.recommender.users
    return {
        "profiles": [
            {
                "profile": number,
                "n_users": profile.n_users,
                "user_id": users.one_id(profile.user_index),
                "genres": profile.genres,
                "favourites": [
                    {**item_fields(favourite.item_index, items), "lift": favourite.lift}
                    for favourite in profile.favourites
                ],
            }
            for number, profile in enumerate(known.profiles, 1)
        ],
        "questions": [
            {**item_fields(question.item_index, items), "average_score": question.average_score}
            for question in known.questions
        ],
    }


def _print_profiles(shown: dict[str, Any]) -> None:
    def label(item: dict[str, Any]) -> str:
        return printable(displayed(item["title"] or "") or str(item["item_id"]))

    click.echo("Profiles, each with what it likes better than the average user does")
    for profile in shown["profiles"]:
        genres = ", ".join(profile["genres"])
        about = "1 user" if profile["n_users"] == 1 else f"{profile['n_users']:,} users"
        about += f"; {printable(genres)}" if genres else ""
        click.echo(f"\n{profile['profile']:>3}  {about}")
        for favourite in profile["favourites"][:N_SHOWN]:
            click.echo(f"     {favourite['lift']:+.2f}  {label(favourite)}")
    click.echo('\nQuestions (--answer "TITLE=like", dislike, a rating, or not seen)\n')
    for question in shown["questions"]:
        click.echo(f"     {label(question)}")


def _ask(known: Profiles, items: Catalogue) -> dict[int, Answer]:
    """Ask the questions on the terminal: item index -> answer."""
    low, high = known.recommender.manifest.data.ratings_range
    click.echo(f"\nAnswer like, dislike, or {low:g} to {high:g}; nothing if you have not seen it.\n")

    def value(text: str) -> Answer:
        try:
            answer = _parse_answer(text)
        except ValueError:
            answer = float("nan")
        if isinstance(answer, float) and not low <= answer <= high:
            raise click.BadParameter(
                f"{text!r} is neither like, dislike, nor a rating from {low:g} to {high:g}"
            )
        return answer

    given = {}
    for question in known.questions:
        title = printable(displayed(items.label(question.item_index)))
        given[question.item_index] = click.prompt(title, default="", show_default=False, value_proc=value)
    click.echo("")
    return given
