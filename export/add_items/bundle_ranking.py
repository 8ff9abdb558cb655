"""The parts of a bundle that rank, read back from its tables."""

from __future__ import annotations

import numpy as np

from export.model.dot import DotArrays
from export.model.inputs import SeenRatings
from export.model.row_solvers import ImplicitRidge, InputRows, RowSolver
from export.model.side_by_side import PREFIX, PartColumns, SideBySide
from serve.bundle import manifest as m
from serve.bundle.bundle import Bundle
from serve.bundle.parquet import numbers
from serve.bundle.seen import seen_table


def bundle_ranking(bundle: Bundle) -> SideBySide:
    """The ranking parts of a bundle that has `model.ranking` in its manifest."""
    tables = bundle.manifest.model.ranking
    assert tables is not None
    names = {table.name for table in bundle.manifest.tables}
    biases = f"{PREFIX}item_biases"
    dot = DotArrays(
        bundle.table(f"{PREFIX}user_factors"),
        bundle.table(f"{PREFIX}item_factors"),
        None,
        bundle.table(biases) if biases in names else None,
        None,
        PREFIX,
    )
    parts = tuple(
        PartColumns(part.kind, part.factor, part.width, _solver(bundle, part), part.predicts_ratings)
        for part in tables.parts
    )
    return SideBySide(dot, parts, tables.popularity)


def _solver(bundle: Bundle, part: m.RankingPart) -> RowSolver | None:
    settings = bundle.manifest.list_fold_in
    if settings is None or part.predicts_ratings:  # no graph holds the tables
        return None
    if settings.methods.get(part.kind) == InputRows.method:
        return InputRows(bundle.table("input_factors"))
    if part.confidence is not None:
        return ImplicitRidge(bundle.table(f"{PREFIX}ials_factors"), np.array(part.confidence, np.float32))
    if (ridge := settings.ridges.get(part.kind)) is None:
        return None
    name = part.kind.replace("-", "_")
    back = bundle.table(f"{name}_back"), bundle.table(f"{name}_offset")[0]
    no_confidence = np.zeros(2, np.float32)
    return ImplicitRidge(bundle.table(f"{PREFIX}{name}_factors"), no_confidence, back, ridge.scale, name)


def old_ratings(bundle: Bundle) -> SeenRatings:
    """The ratings in `seen.parquet`."""
    table = seen_table(bundle.file("seen.parquet"))
    columns = {name: numbers(column) for name, column in table.read(table.columns).items()}
    return SeenRatings.of(columns["user_index"], columns["item_index"], columns["rating"])
