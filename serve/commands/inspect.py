"""`recsys inspect`: the content of a bundle, after checking all of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from serve.bundle.shards import shards_of
from serve.commands.options import bundle_argument, json_option, print_json
from serve.commands.table import format_table
from serve.files.names import SIGNATURE_NAME
from serve.terminal import printable

if TYPE_CHECKING:
    from serve.bundle.manifest import File, FoldIn, Graph, ListFoldIn, Manifest, Parity, Table
    from serve.bundle.packing import Compression


@click.command()
@bundle_argument
@json_option
def inspect(bundle: Path, as_json: bool) -> None:
    """Show what is in BUNDLE: graphs, tables, files, metrics, parity, data, training.

    The bundle is checked first: every checksum, every float, every row; and every graph answers its
    conformance cases.
    """
    from serve.runtime.checked_graph import check_all
    from serve.runtime.recommender import Recommender

    recommender = Recommender.load(bundle, "cpu")
    check_all(recommender)
    opened = recommender.bundle
    signed = (opened.path / SIGNATURE_NAME).is_file()
    if as_json:
        import msgspec

        found = {"bundle": str(opened.path), "version": opened.version, "checked": True, "signed": signed}
        print_json(found | msgspec.to_builtins(opened.manifest))
        return
    click.echo(f"{opened.path}\nversion {opened.version}: every checksum, graph, float and row is in order\n")
    if signed:
        click.echo(f"signed ({SIGNATURE_NAME}); `recsys verify --public-key KEY` tells by whom\n")
    click.echo("\n\n".join(_sections(opened.manifest)))


def _sections(manifest: Manifest) -> list[str]:
    model, data = manifest.model, manifest.data
    score_range = "unbounded" if model.score_range is None else "{:g} to {:g}".format(*model.score_range)
    added = [f"{len(addition.item_ids):,} of them, from {addition.data}" for addition in manifest.additions]
    fold_in, list_fold_in = manifest.fold_in, manifest.list_fold_in
    return [
        _pairs(
            "Model",
            {
                "kind": model.kind,
                "users": f"{model.n_users:,}",
                "items": f"{model.n_items:,}",
                "added later": "; ".join(added) or None,
                "users forgotten": manifest.n_forgotten or None,
                "factors": model.n_factors,
                "scores": f"{model.scores}, {score_range}",
                "lists by": model.lists,
                "shards": _shards(manifest),
            },
        ),
        "Parts\n"
        + format_table(
            ["kind", "objective", "weight in lists", "config"],
            [[part.kind, part.objective, f"{part.weight:g}", _settings(part.config)] for part in model.parts],
            align="<<><",
        ),
        f"Graphs (opset {manifest.opset}, IR version {manifest.ir_version})\n"
        + format_table(
            ["graph", "K", "", "tensor", "type", "shape"],
            [row for name, graph in manifest.graphs.items() for row in _tensors(name, graph)],
            align="<><<<<",
        ),
        "Tables\n"
        + format_table(
            ["table", "type", "shape", "bytes", "graphs"],
            [
                [table.name, _type(table), _shape(table.shape), f"{table.bytes:,}", ", ".join(table.graphs)]
                for table in manifest.tables
            ],
            align="<<>><",
        ),
        format_files(manifest.files),
        _pairs("Metrics", manifest.metrics),
        *([] if fold_in is None else [_pairs("Fold-in", _fold_in(fold_in))]),
        *([] if list_fold_in is None else [_pairs("Fold-in of lists", _list_fold_in(list_fold_in))]),
        format_parity(manifest.parity),
        _pairs(
            "Data",
            {
                "name": data.name,
                "ratings": f"{data.n_ratings:,}, from {data.ratings_range[0]:g} to {data.ratings_range[1]:g}",
                "items are": data.item_key,
                "SHA-256": data.sha256,
                "licence": data.licence,
            },
        ),
        _pairs("Split", manifest.split),
        _pairs("Training", {"seed": manifest.training.seed, **manifest.training.settings}),
        _pairs("Versions", manifest.versions),
    ]


def _shards(manifest: Manifest) -> str | None:
    """How many shards there are, and of how many items; None: the catalogue is in one piece."""
    sizes = [stop - first for first, stop in (manifest.graphs[n].items for n in shards_of(manifest.graphs))]
    if not sizes:
        return None
    least, most = (f"{size:,}" for size in (min(sizes), max(sizes)))
    return f"{len(sizes)} of {least if least == most else f'{least} to {most}'} items"


def _fold_in(fold_in: FoldIn) -> dict[str, Any]:
    rmse = "unknown" if fold_in.held_out_rmse is None else f"{fold_in.held_out_rmse:.4f}"
    return {
        "regularization": f"{fold_in.regularization:g}",
        "steps": fold_in.steps,
        "held-out RMSE": f"{rmse} ({fold_in.n_held_out_users:,} users)",
    }


def _list_fold_in(fold_in: ListFoldIn) -> dict[str, Any]:
    found = fold_in.held_out_ndcg
    given = sorted((name for name in found if name.isdecimal()), key=int)
    ndcg = [f"{found[name]:.4f} ({name} given)" for name in given]
    ndcg += [f"{found[name]:.4f} ({name})" for name in ("all", "popularity") if name in found]
    return {
        "methods": ", ".join(f"{kind}: {method}" for kind, method in fold_in.methods.items()),
        "prior": f"counts as {fold_in.prior_ratings:g} ratings, with {fold_in.popularity:g} of popularity",
        "held-out nDCG@10": f"{', '.join(ndcg)}; {fold_in.n_held_out_users:,} users" if ndcg else "unknown",
    }


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def format_files(files: Mapping[str, File]) -> str:
    """The files of a bundle, their sizes and checksums, as a table."""
    rows = [[name, f"{file.bytes:,}", file.sha256] for name, file in files.items()]
    return "Files\n" + format_table(["file", "bytes", "SHA-256"], rows, align="<><")


def format_parity(parity: Parity) -> str:
    """The parity report as a table of at most 80 columns, a row for each graph and runtime."""
    rows = [
        [
            check.graph,
            check.provider,
            f"{check.n:,}",
            f"{check.max_error:.1e}",
            f"{check.mean_error:.1e}",
            f"{check.tolerance:.1e}",
            "" if check.list_agreement is None else f"{check.list_agreement:.1%}",
            "passed" if check.passed else "FAILED",
        ]
        for check in parity.checks
    ]
    headers = ["graph", "on", "n", "max error", "mean", "allowed", "lists", ""]
    lines = [
        f"RMSE on a sample, the held-out ratings among these {check.n:,} pairs: "
        f"torch {check.rmse_torch:.6f}, ONNX on {check.provider} {check.rmse_onnx:.6f}"
        for check in parity.checks
        if check.rmse_torch is not None and check.provider != "onnx.reference"
    ]
    lines += [] if parity.compression is None else [_compression(parity.compression)]
    title = f"Parity with torch: {'passed' if parity.passed else 'FAILED'}"
    return "\n".join([title, format_table(headers, rows, align="<<>>>>><"), *lines])


def _compression(found: Compression) -> str:
    """What packed tables save and change, on one line."""
    changes = [f"{found.list_overlap:.1%} of the {found.k} best items are the same ({found.n_users:,} users)"]
    if found.rmse is not None and found.float32_rmse is not None:
        changes.append(f"RMSE {found.float32_rmse:.5f} -> {found.rmse:.5f}")
    if found.ndcg is not None and found.float32_ndcg is not None:
        changes.append(f"nDCG@{found.k} {found.float32_ndcg:.4f} -> {found.ndcg:.4f}")
    share = found.bytes / max(1, found.float32_bytes)
    return f"Tables of {found.precision}, {share:.1%} of the bytes of float32: {'; '.join(changes)}"


def _pairs(title: str, values: Mapping[str, Any], indent: str = "  ") -> str:
    """A title, and a line for each value that is not None; nested mappings are indented."""
    values = {name: value for name, value in values.items() if value is not None}
    widest = max((len(name) for name in values), default=0)
    lines = [title]
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines.append(indent + _pairs(printable(name), value, indent + "  "))
        else:
            shown = f"{value:.4f}" if isinstance(value, float) and abs(value) >= 0.001 else str(value)
            lines.append(f"{indent}{printable(name):<{widest}}  {printable(shown)}")
    return "\n".join(lines)


def _tensors(name: str, graph: Graph) -> list[list[str]]:
    """A row for each input and output; the graph's name and K stand on the first."""
    tensors = [("in", tensor) for tensor in graph.inputs] + [("out", tensor) for tensor in graph.outputs]
    rows = [["", "", way, tensor.name, tensor.dtype, _shape(tensor.shape)] for way, tensor in tensors]
    rows[0][:2] = [name, str(graph.top_k or "")]
    return rows


def _type(table: Table) -> str:
    """The type of its numbers; of packed ones, their precision."""
    return table.dtype if table.packing is None else table.packing.precision


def _shape(shape: list[Any]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
