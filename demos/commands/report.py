"""`recsys report`: the model card of a bundle as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from demos.commands.other_bundle import other_argument
from serve.commands.options import bundle_argument


@click.command()
@bundle_argument
@other_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page to write; an existing file is replaced. [default: card.html; of two, comparison.html]",
)
def report(bundle: Path, other: Path | None, output: Path | None) -> None:
    """Write a page about BUNDLE: quality, learning curves, errors, a map of its items, parity, sizes.

    With OTHER, a second bundle of the same data, the page compares the two: their metrics, and how far
    their lists agree. Either page is one file that needs no network; it suits the screen and paper.

    \b
      recsys report artifacts/default -o card.html
      recsys report artifacts/default artifacts/candidate -o comparison.html
    """
    from demos.report.comparison import Pair
    from demos.report.page import comparison_page, report_page
    from serve import Recommender
    from serve.files.atomic import check_outside_bundles, write_file

    output = output or Path("card.html" if other is None else "comparison.html")
    check_outside_bundles(output)
    shown = []
    for path in [bundle, *([other] if other else [])]:
        shown.append(Recommender.load(path, "cpu"))
        shown[-1].check()
    page = report_page(shown[0].bundle) if other is None else comparison_page(Pair(*shown))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_file(output, page.encode())
    click.echo(f"Wrote {output} ({len(page.encode()):,} bytes).")
