"""Runs a bundle's conformance cases in a runtime and compares the outputs.

`python -m demos.python.conformance BUNDLE --runtime onnxruntime|openvino|tract`
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from demos.python.runners import RUNTIMES, Open
from serve import Bundle, open_bundle
from serve.bundle.conformance import comparable, difference, read_conformance
from serve.errors import ServeError, UnsupportedError
from serve.files.names import CONFORMANCE_NAME

# Lower than every score. Only the tail of a list that ran out of items is lower still.
TAIL = -1e29


class Verdict(NamedTuple):
    """The result of the conformance cases of one graph in a runtime."""

    graph: str
    n_cases: int
    """0: the bundle has no conformance cases for the graph."""
    largest_error: float = float("nan")
    """Largest difference of a float output from the reference; nan where nothing was compared."""
    unsupported: str | None = None
    """Why the runtime can't run the graph."""
    problem: str | None = None
    """What is wrong with an output."""

    def __str__(self) -> str:
        if self.unsupported:
            return f"{self.graph}: not supported: {self.unsupported}"
        if not self.n_cases:
            return f"{self.graph}: not compared: the bundle has no conformance cases for it"
        equal = f"equal, {self.n_cases} cases within {self.largest_error:.1e}"
        return f"{self.graph}: {self.problem or equal}"


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
        return Verdict(graph, len(cases), unsupported=str(error))
    errors = [0.0] if cases else []
    for case in cases:
        inputs, right = case.arrays()
        found = run(inputs)
        if problem := difference(found, right, bundle.manifest.graphs[graph].tolerance):
            return Verdict(graph, len(cases), problem=problem)
        for name, array in right.items():
            if array.dtype.kind == "f":
                off = np.abs(found[name].astype(np.float64) - array)
                off = off[(array > TAIL) & comparable(name, found, right)]
                errors.append(float(off.max(initial=0.0)))
    return Verdict(graph, len(cases), max(errors, default=float("nan")))


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--runtime", type=click.Choice(list(RUNTIMES)), default="onnxruntime", help="What to run.")
def main(bundle: Path, runtime: str) -> None:
    """Run every conformance case of BUNDLE and print the largest error of each graph."""
    try:
        opened = open_bundle(bundle)
        verdicts = [check(opened, graph, RUNTIMES[runtime]) for graph in sorted(opened.manifest.graphs)]
    except ServeError as error:
        raise click.ClickException(str(error)) from error
    for verdict in verdicts:
        click.echo(verdict)
    if any(verdict.problem for verdict in verdicts):
        raise click.exceptions.Exit(1)
    if all(verdict.unsupported or not verdict.n_cases for verdict in verdicts):
        raise click.ClickException("nothing was compared.")


if __name__ == "__main__":
    main()
