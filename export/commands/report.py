"""What `recsys export` and `recsys verify` print."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from serve.manifest import File, Parity


def print_files(console: Console, files: dict[str, File]) -> None:
    """The files of a bundle with their sizes."""
    table = Table(title="Files", title_justify="left")
    table.add_column("file")
    table.add_column("bytes", justify="right")
    table.add_column("SHA-256")
    for name, file in files.items():
        table.add_row(name, f"{file.bytes:,}", f"{file.sha256[:12]}…")
    table.add_section()
    table.add_row("total", f"{sum(file.bytes for file in files.values()):,}", "")
    console.print(table)


def print_parity(console: Console, parity: Parity) -> None:
    """The parity report: one row a graph and provider; errors in ratings, or cosines."""
    table = Table(title="Parity with torch", title_justify="left")
    for name in ("graph", "provider"):
        table.add_column(name)
    for name in ("asked", "largest error", "mean error", "tolerance", "lists agree", "RMSE torch / ONNX"):
        table.add_column(name, justify="right")
    table.add_column("")
    for check in parity.checks:
        agreement = "" if check.list_agreement is None else f"{check.list_agreement:.2%}"
        rmse = "" if check.rmse_torch is None else f"{check.rmse_torch:.6f} / {check.rmse_onnx:.6f}"
        table.add_row(
            check.graph,
            check.provider,
            f"{check.n:,}",
            f"{check.max_error:.1e}",
            f"{check.mean_error:.1e}",
            f"{check.tolerance:.1e}",
            agreement,
            rmse,
            "[green]equal[/]" if check.passed else "[red]DIFFERS[/]",
        )
    console.print(table)
