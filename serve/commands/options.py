"""What the answering commands share: their arguments, and the shape of a list of items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from serve.bundle.items import Catalogue
    from serve.runtime.rankings import Ranking

T = TypeVar("T")

bundle_argument = click.argument("bundle", type=click.Path(exists=True, path_type=Path))
top_k_option = click.option(
    "-k",
    "--top-k",
    type=click.IntRange(min=1),
    help="How many items to list. [default: 10, or all that BUNDLE ranks]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes a GPU that truly works, else the CPU.",
)
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace a bundle that is there, once the new one is whole."
)
bundle_output_option = click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="The bundle to make: a new folder."
)
allow_host_option = click.option(
    "--allow-host",
    "allow_hosts",
    metavar="NAME",
    multiple=True,
    help="Also answer requests to this host name, and from pages of it; repeatable. Addresses, localhost and "
    "the name given as --host need none.",
)


def item_values(values: Sequence[str], parse: Callable[[str], T], form: str) -> list[tuple[str, T]]:
    """Each "TITLE_OR_ID=VALUE" as its two parts. A title may hold "=", so the last one separates them.

    Args:
        values: What was given on the command line.
        parse: Reads a value, or raises ValueError.
        form: What is expected, for the error.

    Raises:
        click.BadParameter: no item, or a value that `parse` refuses.
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


def listed(ranking: Ranking, items: Catalogue) -> list[dict[str, Any]]:
    """`item_id`, `title` and `score` of each item of one list, best first."""
    n = int(ranking.count)
    pairs = zip(ranking.item_indices[:n].tolist(), ranking.scores[:n].tolist(), strict=True)
    return [{**item_fields(index, items), "score": score} for index, score in pairs]


def print_json(value: Any) -> None:
    """One object on one line of stdout."""
    import msgspec

    click.echo(msgspec.json.encode(value))


def print_items(entries: list[dict[str, Any]], score_name: str) -> None:
    """A table of what `listed` gives."""
    from serve.commands.table import format_table

    rows = [
        [str(rank), f"{entry['score']:.2f}", str(entry["item_id"]), entry["title"] or ""]
        for rank, entry in enumerate(entries, 1)
    ]
    click.echo(format_table(["", score_name, "id", "title"], rows, align=">>><"))
