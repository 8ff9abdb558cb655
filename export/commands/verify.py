"""`recsys verify`: prove that a bundle agrees with its torch run."""

from __future__ import annotations

from pathlib import Path

import click

from serve.commands.options import bundle_argument, json_option
from serve.terminal import next_step


@click.command()
@bundle_argument
@click.option(
    "--run",
    type=click.Path(exists=True, path_type=Path),
    help="The run folder that the bundle came from, to compare with.",
)
@click.option(
    "--public-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A PEM file with the key that must have signed the bundle (`recsys sign`).",
)
@json_option
def verify(bundle: Path, run: Path | None, public_key: Path | None, as_json: bool) -> None:
    """Compare every graph of BUNDLE with torch, on every available device; or check who has signed it.

    Held-out pairs, whole top-k lists, neighbours and folded-in users are compared, in onnxruntime and, on a
    sample, in ONNX's reference evaluator. Beyond the stated tolerance the exit code is 1; so it is where
    the signature of --public-key is missing or wrong.

    \b
      recsys verify artifacts/mine --run runs/mine
      recsys verify artifacts/mine --public-key key.pub
    """
    if run is None and public_key is None:
        raise click.UsageError("Verify against what? --run RUN, or --public-key KEY, or both.")
    serving: list[str | Path] = ["recsys", "serve", bundle]
    if public_key is not None:
        from serve.bundle.bundle import open_bundle
        from serve.bundle.signature import check_signature

        check_signature(bundle.resolve(), public_key)
        open_bundle(bundle)
        serving += ["--require-signature", "--public-key", public_key]
        if not as_json:
            click.echo(f"Signed by the key in {public_key}: {bundle}" + ("\n" if run else ""))
    if run is not None:
        _compare(bundle, run, as_json)
    elif as_json:
        click.echo('{"signed":true}')
    if not as_json:
        next_step(serving)


def _compare(bundle: Path, run: Path, as_json: bool) -> None:
    """Print the parity of a bundle with its run. Raises ParityError: beyond the tolerance."""
    import msgspec

    from export.errors import ParityError
    from export.verify.verify import describe_failures
    from export.verify.verify import verify as verify_bundle
    from serve.commands.inspect import format_parity

    parity = verify_bundle(bundle, run)
    if not parity.passed:  # set before printing, which may fail where the reader has left
        click.get_current_context().meta["exit_code"] = ParityError.exit_code
    if as_json:
        click.echo(msgspec.json.encode(parity).decode())
    else:
        click.echo(format_parity(parity))
    if not parity.passed:
        raise ParityError(describe_failures(parity))
