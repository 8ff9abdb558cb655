"""`recsys report`: the model card of a bundle as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from serve.commands.options import bundle_argument


@click.command()
@bundle_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("card.html"),
    show_default=True,
    help="The page to write; an existing file is replaced.",
)
def report(bundle: Path, output: Path) -> None:
    """Write a page about BUNDLE: quality, learning curves, errors, a map of its items, parity, sizes.

    The page is one file that needs no network; it suits the screen and paper.

    \b
      recsys report artifacts/default -o card.html
    """
    from demos.report.page import report_page
    from serve import Recommender
    from serve.files.atomic import check_outside_bundles, write_file

    check_outside_bundles(output)
    recommender = Recommender.load(bundle, "cpu")
    recommender.check()
    page = report_page(recommender.bundle)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_file(output, page.encode())
    click.echo(f"Wrote {output} ({len(page.encode()):,} bytes).")
