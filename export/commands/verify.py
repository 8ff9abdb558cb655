"""`recsys verify`: prove that a bundle agrees with its torch run."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--run",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="The run folder that the bundle came from.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(bundle: Path, run: Path, as_json: bool) -> None:
    """Compare every graph of BUNDLE with torch, on every device that is really there.

    Held-out pairs, whole top-k lists, neighbours and folded-in users are compared, in onnxruntime and, on a
    sample, in ONNX's reference evaluator. Beyond the stated tolerance the exit code is 1.

    \b
      recsys verify artifacts/mine --run runs/mine
    """
    import msgspec

    from export.commands.report import print_parity
    from export.errors import ParityError
    from export.verify.verify import describe_failures
    from export.verify.verify import verify as verify_bundle
    from recsys.console import Console

    parity = verify_bundle(bundle, run)
    if not parity.passed:  # also where nobody reads what is printed
        click.get_current_context().meta["exit_code"] = ParityError.exit_code
    if as_json:
        click.echo(msgspec.json.encode(parity).decode())
    else:
        print_parity(Console(), parity)
    if not parity.passed:
        raise ParityError(describe_failures(parity))
