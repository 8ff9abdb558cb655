"""What `recsys export` and `recsys verify` print: tables that fit into 80 columns."""

from __future__ import annotations

from rich import box
from rich.table import Table

from recsys.console import Console
from serve.bundle.manifest import File, Parity


def print_files(console: Console, files: dict[str, File]) -> None:
    """The files of a bundle with their sizes."""
    table = _table("Files", ["file"], ["bytes"])
    table.add_column("SHA-256")
    for name, file in files.items():
        table.add_row(name, f"{file.bytes:,}", f"{file.sha256[:12]}…")
    table.add_section()
    table.add_row("total", f"{sum(file.bytes for file in files.values()):,}", "")
    console.print(table)


def print_left_out(console: Console, left_out: dict[str, str]) -> None:
    """The graphs that the bundle is made without, and why."""
    for graph, why in left_out.items():
        console.print(f"Without {graph}.onnx: {why}", markup=False)


def print_parity(console: Console, parity: Parity) -> None:
    """The parity report: one row a graph and provider; errors in ratings, or cosines."""
    table = _table(
        "Parity with torch",
        ["graph", "on"],
        ["asked", "max error", "mean", "allowed", "lists", "equal"],
    )
    for check in parity.checks:
        table.add_row(
            check.graph,
            check.provider.removeprefix("onnx."),
            f"{check.n:,}",
            f"{check.max_error:.1e}",
            f"{check.mean_error:.1e}",
            f"{check.tolerance:.1e}",
            "" if check.list_agreement is None else f"{check.list_agreement:.1%}",
            "[green]ok[/]" if check.passed else "[red]NO[/]",
        )
    console.print(table)
    for check in parity.checks:
        if check.rmse_torch is not None and check.provider != "onnx.reference":
            console.print(
                f"RMSE of the held-out ratings: torch {check.rmse_torch:.6f}, "
                f"ONNX on {check.provider} {check.rmse_onnx:.6f}"
            )


def _table(title: str, left: list[str], right: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table
