"""Arguments and options that several commands have, and how they print a list of items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from serve.bundle.titles import displayed
from serve.commands.table import format_table
from serve.reading.options import IntegerRange
from serve.terminal import printable, warn

if TYPE_CHECKING:
    from serve.bundle.items import Catalogue
    from serve.runtime.rankings import Ranking
    from serve.runtime.reasons import Reasons
    from serve.runtime.recommender import Recommender

T = TypeVar("T")

N_STARS = 5
"""Ratings up to this are shown as stars, too."""


def choice_option(name: str, *choices: str, help: str) -> Callable[[Any], Any]:
    """An option with a few possible values; the first one is the default."""
    return click.option(name, type=click.Choice(choices), default=choices[0], show_default=True, help=help)


bundle_argument = click.argument("bundle", type=click.Path(exists=True, path_type=Path))
top_k_option = click.option(
    "-k",
    "--top-k",
    type=IntegerRange(min=1),
    help="How many items to list. [default: 10, or all that BUNDLE ranks]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
device_option = choice_option(
    "--device", "auto", "cpu", "cuda", help="Where to compute; auto takes a GPU that works, else the CPU."
)
tf32_option = click.option(
    "--tf32",
    is_flag=True,
    help="On a GPU, multiply matrices in TensorFloat-32: 11 of 24 bits.",
)
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace a bundle that is there, once the new one is whole."
)
bundle_output_option = click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="The bundle to make: a new folder."
)
exact_option = click.option(
    "--exact", is_flag=True, help="Don't use recommend_fast.onnx for one user's list."
)
allow_host_option = click.option(
    "--allow-host",
    "allow_hosts",
    metavar="NAME",
    multiple=True,
    help="A host name that clients use, besides localhost and IP addresses; repeatable.",
)


def of_file(name: str) -> bool:
    """Whether the value of a parameter of the running command is from `recsys.toml`."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.DEFAULT_MAP


def alternatives(*names: str) -> list[Any]:
    """The values of parameters that exclude each other; where one is on the command line, None for those of
    `recsys.toml`.
    """
    context = click.get_current_context()
    sources = [context.get_parameter_source(name) for name in names]
    overridden = ParameterSource.COMMANDLINE in sources
    return [
        None if overridden and source is ParameterSource.DEFAULT_MAP else context.params[name]
        for name, source in zip(names, sources, strict=True)
    ]


def inapplicable(name: str, why: str) -> None:
    """Say that the value of a parameter is left out; `why` follows the flag.

    Raises UsageError: it is on the command line, not in `recsys.toml`.
    """
    flag = next(one.opts[-1] for one in click.get_current_context().command.params if one.name == name)
    if not of_file(name):
        raise click.UsageError(f"{flag} {why}")
    warn(f"Left out: {flag} {why}")


def load(bundle: Path, device: str, *, exact: bool = False) -> Recommender:
    """Load a bundle for one answer; the graph that gives it is checked when it is opened."""
    from serve.runtime.recommender import Recommender

    # The other layout of the tables pays over many answers: it takes their memory again, and time to make.
    return Recommender.load(bundle, device, share_tables=True, exact=exact)  # type: ignore[arg-type]


def item_values(values: Sequence[str], parse: Callable[[str], T], form: str) -> list[tuple[str, T]]:
    """Split each "TITLE_OR_ID=VALUE" at its last "=", since a title may hold one.

    Raises click.BadParameter: not of this `form`, or `parse` raises ValueError for the value.
    """
    parsed = []
    for text in values:
        item, _, value = text.rpartition("=")
        try:
            parsed.append((item, parse(value)))
        except ValueError:
            item = ""
        if not item.strip():
            raise click.BadParameter(f"{text!r} is not {form}.")
    return parsed


def item_fields(item_index: int, items: Catalogue) -> dict[str, Any]:
    """`item_id` and `title` of one item; the title is None where the data has none."""
    item = items[item_index]
    return {"item_id": item.item_id, "title": item.title}


def print_json(value: Any) -> None:
    """Print one JSON object on one line of stdout."""
    import msgspec

    click.echo(msgspec.json.encode(value))


def print_recommended(
    ranking: Ranking, recommender: Recommender, as_json: bool, is_varied: bool, **fields: Any
) -> None:
    """Print a user's list, best first: as a table, or as one JSON object with further fields.

    The table has predicted ratings instead of scores where there are any; they need not fall. Below an item
    are its reasons, if the list has some; after it is what orders it, such as variety (`is_varied`).
    """
    entries = _entries(ranking, recommender.items)
    reasons = ranking.reasons
    if reasons is not None:
        entries = [entry | {"reasons": reasons.described(place)} for place, entry in enumerate(entries)]
    ratings: list[Any] = [None] * len(entries)
    if ranking.ratings is not None:
        ratings = ranking.ratings[: len(entries)].tolist()
    if as_json:
        pairs = zip(entries, ratings, strict=True)
        print_json({**fields, "items": [{**entry, "rating": rating} for entry, rating in pairs]})
        return
    from serve.runtime.rankings import order_of

    order = order_of(ratings, is_varied)
    if ranking.ratings is not None:
        low, high = recommender.manifest.data.ratings_range
        has_stars = low >= 0 and high == N_STARS
        stars = [f"{'★' * round(rating):{N_STARS}} " if has_stars else "" for rating in ratings]
        cells = [f"{drawn}{rating:.2f}" for drawn, rating in zip(stars, ratings, strict=True)]
        _print_table("rating", cells, entries, reasons, order)
    else:
        _print_table("score", [f"{entry['score']:.3f}" for entry in entries], entries, reasons, order)


def print_similar(ranking: Ranking, items: Catalogue, as_json: bool, **fields: Any) -> None:
    """Print similar items with their cosines, likewise."""
    entries = _entries(ranking, items)
    if as_json:
        print_json({**fields, "items": entries})
        return
    _print_table("cosine", [f"{entry['score']:.2f}" for entry in entries], entries)


def _entries(ranking: Ranking, items: Catalogue) -> list[dict[str, Any]]:
    n = int(ranking.count)
    pairs = zip(ranking.item_indices[:n].tolist(), ranking.scores[:n].tolist(), strict=True)
    return [{**item_fields(index, items), "score": score} for index, score in pairs]


def _print_table(
    name: str,
    cells: Sequence[str],
    entries: Sequence[dict[str, Any]],
    reasons: Reasons | None = None,
    order: str = "",
) -> None:
    rows = [
        [str(rank), cell, str(entry["item_id"]), displayed(entry["title"] or "")]
        for rank, (cell, entry) in enumerate(zip(cells, entries, strict=True), 1)
    ]
    heading, *lines = format_table(["", name, "id", "title"], rows, align=">>><").split("\n")
    if reasons is not None:
        told = [printable(", ".join(map(str, because)), keep="") for because in reasons]
        below = [f"because you rated {text}" if text else "not because of any rating" for text in told]
        lines = [f"{line}\n      {text}" for line, text in zip(lines, below, strict=True)]
    click.echo("\n".join([heading, *lines]) + (f"\n\n{order}" if order else ""))
    if reasons is None or reasons.row_scores is None or not reasons.contributions.size:
        return
    distances, scores = abs(reasons.row_scores - reasons.scores), reasons.row_scores
    click.echo(
        "\nThe reasons are those of a new user with the same ratings, whose scores differ from the list's "
        f"({scores.min():.3g} to {scores.max():.3g}) by {distances.mean():.2g} on average, "
        f"{distances.max():.2g} at most."
    )
