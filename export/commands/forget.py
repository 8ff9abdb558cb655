"""`recsys forget`: a bundle without some of its users."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serve.commands.options import bundle_argument, bundle_output_option, json_option, overwrite_option
from serve.terminal import next_step

if TYPE_CHECKING:
    from serve.bundle.ids import IdIndex


@click.command()
@bundle_argument
@click.option("--user-id", "user_ids", metavar="ID", multiple=True, help="A user to forget; repeatable.")
@click.option(
    "--input",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Users to forget: a Parquet, CSV, TSV or JSON lines file with a column of user ids.",
)
@bundle_output_option
@overwrite_option
@json_option
def forget(
    bundle: Path, user_ids: tuple[str, ...], file: Path | None, output: Path, overwrite: bool, as_json: bool
) -> None:
    """Make a new bundle: BUNDLE without the named users.

    Their ids and ratings go, and their rows become the average of the others. Nothing is trained: the rows of
    items stay as the training with these users made them. No other user's scores change. BUNDLE stays as it
    is: delete it, its run, and the data when nothing uses them any more.

    \b
      recsys forget artifacts/mine --user-id 42 --user-id 7 --output artifacts/mine-2
      recsys forget artifacts/mine --input deleted.csv --output artifacts/mine-2
    """
    import msgspec

    from export.forget.forget import forget as forget_users
    from recsys.console import Console
    from serve.bundle.bundle import open_bundle
    from serve.bundle.users import read_users

    if not user_ids and file is None:
        raise click.UsageError("Name the users: --user-id ID (repeatable), or --input FILE.")
    users = read_users(open_bundle(bundle))
    ids: list[Any] = [users.parse(text) for text in user_ids]
    if file is not None:
        ids += _ids_in(file, users)
    console = Console(stderr=as_json)
    with console.status("") as status:
        manifest = forget_users(
            bundle, ids, output, overwrite=overwrite, progress=lambda step: status.update(f"{step}…")
        )
    last = manifest.forgotten[-1]
    if as_json:
        click.echo(msgspec.json.encode(last))
        return
    left = manifest.model.n_users - manifest.n_forgotten
    click.echo(f"Users forgotten: {last.n_users:,}; left: {left:,}.")
    click.echo(f"Bundle: {output}")
    next_step(["recsys", "serve", output])


def _ids_in(file: Path, users: IdIndex) -> list[Any]:
    """The user ids in a file. Raises InputError: it can't be read, or a row has no valid id."""
    import pyarrow as pa

    from serve.errors import InputError
    from serve.reading.columns import find_columns
    from serve.reading.files import open_source
    from serve.reading.ids import as_ids, check_type, why_not
    from serve.reading.rows import joined

    source = open_source(file)
    column = find_columns(source.schema.names, {"user": None}, source.name)["user"]
    check_type(source, column, users.type, "the bundle's")
    found: list[Any] = []
    for rows in source.read([column]):
        if rows.refused:
            row = rows.refused[0]
            raise InputError(f"{row.source}, {row.place}: {row.reason}")
        given: pa.Array = joined(rows.table.column(column))
        read = as_ids(given, users.type)
        if read.null_count:
            value = given.filter(read.is_null())[0].as_py()
            raise InputError(f"{file}: {value!r} is no user id: {why_not(value)}")
        found += read.to_pylist()
    return found
