"""Does a runtime answer as a bundle's conformance cases say?

`python -m demos.python.conformance BUNDLE --runtime onnxruntime|openvino|tract`
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from demos.python.runners import RUNTIMES, Open
from serve.bundle.bundle import Bundle, open_bundle
from serve.bundle.conformance import difference, read_conformance
from serve.errors import ServeError, UnsupportedError
from serve.files.names import CONFORMANCE_NAME

# Below every score: the tail of a list that ran out of items.
TAIL = -1e29


@dataclass(frozen=True)
class Verdict:
    """How a runtime answered the conformance cases of one graph."""

    graph: str
    n_cases: int
    """0: the bundle has none for it."""
    largest_error: float
    """Largest difference of a float output from the reference; nan where nothing was compared."""
    unsupported: str | None = None
    """Why the runtime can't run the graph."""
    problem: str | None = None
    """What is wrong with an answer."""


def check(bundle: Bundle, graph: str, open_graph: Open) -> Verdict:
    """Run the conformance cases of one graph of a bundle.

    Raises:
        BundleError: the bundle has no conformance cases.
    """
    cases = read_conformance(bundle.file(CONFORMANCE_NAME)).graphs.get(graph, [])
    outputs = [tensor.name for tensor in bundle.manifest.graphs[graph].outputs]
    try:
        run = open_graph(bundle.file(bundle.manifest.graphs[graph].file), outputs)
    except UnsupportedError as error:
        return Verdict(graph, len(cases), float("nan"), unsupported=str(error))
    largest = 0.0 if cases else float("nan")
    for case in cases:
        inputs, right = case.arrays()
        found = run(inputs)
        if problem := difference(found, right, bundle.manifest.graphs[graph].tolerance):
            return Verdict(graph, len(cases), float("nan"), problem=problem)
        for name, array in right.items():
            if array.dtype.kind == "f":
                errors = np.abs(found[name].astype(np.float64) - array)[array > TAIL]
                largest = max(largest, float(errors.max(initial=0.0)))
    return Verdict(graph, len(cases), largest)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--runtime", type=click.Choice(list(RUNTIMES)), default="onnxruntime", help="What runs the graphs."
)
def main(bundle: Path, runtime: str) -> None:
    """Run every conformance case of BUNDLE and say how far the answers are off."""
    try:
        opened = open_bundle(bundle)
        verdicts = [check(opened, graph, RUNTIMES[runtime]) for graph in sorted(opened.manifest.graphs)]
    except ServeError as error:
        raise click.ClickException(str(error)) from error
    for verdict in verdicts:
        if verdict.unsupported:
            told = f"not supported: {verdict.unsupported}"
        elif not verdict.n_cases:
            told = "not compared: the bundle has no conformance cases for it"
        else:
            told = verdict.problem or f"equal, {verdict.n_cases} cases within {verdict.largest_error:.1e}"
        click.echo(f"{verdict.graph}: {told}")
    if any(verdict.problem for verdict in verdicts):
        raise click.exceptions.Exit(1)
    if all(verdict.unsupported or not verdict.n_cases for verdict in verdicts):
        raise click.ClickException("nothing was compared.")


if __name__ == "__main__":
    main()
