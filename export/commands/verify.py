"""`recsys verify`: prove that a bundle agrees with its torch run."""

from __future__ import annotations

from pathlib import Path

import click

from serve.commands.options import bundle_argument, json_option


@click.command()
@bundle_argument
@click.option(
    "--run",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="The run folder that the bundle came from.",
)
@json_option
def verify(bundle: Path, run: Path, as_json: bool) -> None:
    """Compare every graph of BUNDLE with torch, on every available device.

    Held-out pairs, whole top-k lists, neighbours and folded-in users are compared, in onnxruntime and, on a
    sample, in ONNX's reference evaluator. Beyond the stated tolerance the exit code is 1.

    \b
      recsys verify artifacts/mine --run runs/mine
    """
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
