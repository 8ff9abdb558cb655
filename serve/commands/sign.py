"""`recsys sign`: a signature for a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from serve.commands.options import bundle_argument
from serve.terminal import next_step


@click.command()
@bundle_argument
@click.option(
    "--private-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="A PEM file with a key on P-256, P-384 or P-521, not encrypted.",
)
def sign(bundle: Path, private_key: Path) -> None:
    """Sign BUNDLE: add model.sig, a signature of every file in it.

    The bundle is checked first. `recsys verify --public-key` and `recsys serve --require-signature` tell
    whether the holder of the key has signed it and nothing has changed since.

    \b
      openssl ecparam -name prime256v1 -genkey -noout -out key.pem
      openssl ec -in key.pem -pubout -out key.pub
      recsys sign artifacts/mine --private-key key.pem
      recsys verify artifacts/mine --public-key key.pub
    """
    from serve.bundle.bundle import open_bundle
    from serve.bundle.signature import sign as sign_bundle
    from serve.files.names import SIGNATURE_NAME

    opened = open_bundle(bundle)
    sign_bundle(opened, private_key)
    click.echo(f"Signed: {opened.path / SIGNATURE_NAME}")
    public_key = private_key.with_suffix(".pub")
    lines: list[list[str | Path]] = [["recsys", "verify", bundle, "--public-key", public_key]]
    if not public_key.exists():
        lines.insert(0, ["openssl", "ec", "-in", private_key, "-pubout", "-out", public_key])
    next_step(*lines)
