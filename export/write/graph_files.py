"""What a bundle holds beside ids and ratings: graphs, golden vectors, and what the manifest says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.graphs.recommend_by_id import IdTables
from export.model.arrays import Arrays, DotArrays
from export.model.fold_in_choice import FACTOR_TOLERANCE
from export.model.reference import Int64
from export.verify.parity import SCORE_TOLERANCE
from export.write import conformance
from export.write import tables_file as tables
from serve.bundle import manifest as m
from serve.files.checksum import sha256_of

TablesFile = Literal["auto", "always", "never"]


def write_graphs(folder: Path, graphs: Mapping[str, ir.Model], tables_file: TablesFile) -> None:
    """Write `GRAPH.onnx` for each, and `tables.bin` where tables are large or it is asked for."""
    sizes = [array.nbytes for model in graphs.values() for array in tables.initializers(model).values()]
    if tables_file == "always" or (tables_file == "auto" and sum(sizes) > tables.LARGE):
        tables.move_out(graphs.values(), folder)
    for name, model in graphs.items():
        data = ir.to_proto(model).SerializeToString(deterministic=True)
        (folder / f"{name}.onnx").write_bytes(data)


def write_conformance(
    folder: Path,
    arrays: Arrays,
    seen_by: Callable[[int], tuple[Int64, npt.NDArray[np.float32]]],
    score_span: float,
    top_k: int,
    fold_in: m.FoldIn | None,
    ids: IdTables | None = None,
) -> None:
    """Write `conformance.json`.

    Args:
        folder: where to.
        arrays: the model.
        seen_by: user index -> items that the user has rated, int64 [H], and the ratings, float32 [H].
        score_span: width of the rating scale (ratings).
        top_k: K of the graphs.
        fold_in: what `fold_in.onnx` solves; None where there is no such graph.
        ids: what `recommend_by_id.onnx` holds; None where there is no such graph.
    """
    n_users = len(arrays.user_factors if isinstance(arrays, DotArrays) else arrays.user_hidden) - 1
    users = sorted({1, (n_users + 1) // 2, n_users})
    # A handful of ratings each keeps the file small.
    seen = {}
    for user in users:
        items, ratings = seen_by(user)
        seen[user] = (items[:10], ratings[:10])
    ridge = None if fold_in is None else fold_in.regularization
    cases = conformance.conformance(arrays, seen, top_k, ridge, ids)
    tolerance = {
        "score": SCORE_TOLERANCE * score_span,
        "top_scores": SCORE_TOLERANCE * max(1.0, score_span),
        "user_factors": FACTOR_TOLERANCE,
        "user_biases": FACTOR_TOLERANCE,
    }
    (folder / "conformance.json").write_bytes(conformance.encode(cases, tolerance))


def describe_graph(name: str, model: ir.Model) -> m.Graph:
    """What the manifest says of a graph."""

    def tensor(value: ir.Value) -> m.Tensor:
        assert value.name is not None
        assert value.dtype is not None
        assert value.shape is not None
        shape = [int(size) if isinstance(size, int) else str(size) for size in value.shape]
        dtype = "string" if value.dtype == ir.DataType.STRING else value.dtype.numpy().name
        return m.Tensor(name=value.name, dtype=dtype, shape=shape)

    outputs = [tensor(value) for value in model.graph.outputs]
    widths = [output.shape[1] for output in outputs if output.name == "top_scores"]
    return m.Graph(
        file=f"{name}.onnx",
        inputs=[tensor(value) for value in model.graph.inputs],
        outputs=outputs,
        top_k=int(widths[0]) if widths else None,
    )


def list_tables(arrays: Mapping[str, Mapping[str, npt.NDArray[Any]]]) -> list[m.Table]:
    """The tables of a model. `arrays`: graph -> name -> initializer."""
    found: dict[str, m.Table] = {}
    for graph, named in arrays.items():
        for name, array in named.items():
            if tables.is_table(name, array):
                graphs = [*(found[name].graphs if name in found else []), graph]
                found[name] = m.Table(
                    name=name,
                    dtype=array.dtype.name,
                    shape=list(array.shape),
                    bytes=array.nbytes,
                    graphs=graphs,
                )
    return list(found.values())


def list_files(folder: Path) -> dict[str, m.File]:
    """Sizes and checksums of the files in a folder that has no manifest yet."""
    return {path.name: _describe_file(path) for path in sorted(folder.iterdir())}


def _describe_file(path: Path) -> m.File:
    return m.File(bytes=path.stat().st_size, sha256=sha256_of(path))
