"""What packed tables cost: how far they are from the run's, and what that does to ratings and lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from export.errors import ParityError
from export.model.inputs import ExportInputs
from export.model.packed_inputs import float_tables, with_packed
from export.model.packed_table import ROUNDING, PackedTable, rounding
from export.write.run_inputs import LoadedRun
from recsys.evaluation.evaluate import DEFAULT_K, USERS_AT_ONCE
from recsys.evaluation.ranking import RatedItems
from recsys.models.scoring import ranker
from recsys.training.evaluate_run import evaluate_run
from serve.bundle import manifest as m
from serve.bundle.bundle import Bundle
from serve.bundle.packing import PRECISIONS, SCALES, UNITS, Compression
from serve.bundle.shards import whole_table

N_USERS = 1000
"""Users whose lists are compared, at most."""


def read_packed(bundle: Bundle) -> dict[str, PackedTable]:
    """The packed tables of a bundle, by name, without the rows that shards have of them; none in float32."""
    found = {}
    for table in bundle.manifest.tables:
        if (packing := table.packing) is not None and whole_table(table.name) == table.name:
            name = table.name
            scales = None if packing.precision == "float16" else bundle.stored_table(name + SCALES)
            units = bundle.stored_table(name + UNITS)
            found[name] = PackedTable(bundle.stored_table(name), scales, units, packing)
    return found


def with_tables_of(exact: ExportInputs, packed: Mapping[str, PackedTable]) -> ExportInputs:
    """The inputs with the packed tables of a bundle, if it has some.

    Raises:
        ParityError: they are not the tables of this run.
    """
    if not packed:
        return exact
    wanted = {name: table.shape for name, table in float_tables(exact).items()}
    found = {name: table.numbers.shape for name, table in packed.items()}
    if found != wanted:
        raise ParityError(f"the packed tables are {found}, and the run's {wanted}: not the same model")
    # Biases are float16 in all of them.
    precisions = {table.packing.precision for table in packed.values()}
    return with_packed(exact, packed, max(precisions, key=PRECISIONS.index))


def with_compression(
    parity: m.Parity,
    loaded: LoadedRun,
    exact: ExportInputs,
    inputs: ExportInputs,
    tables: Sequence[m.Table],
    metrics: Mapping[str, Any] | None = None,
) -> m.Parity:
    """The report with a check of the rounding, and what it changes.

    Args:
        parity: Of the graphs that are made from `inputs`.
        loaded: The run.
        exact: The inputs before their tables were rounded.
        inputs: The same with packed tables; with float32 ones, the report is returned as it is.
        tables: Those of the manifest.
        metrics: Of `evaluate_run` for the rounded model, if they are known.
    """
    if not inputs.packed:
        return parity
    check = rounding_check(exact, inputs)
    return m.Parity(
        passed=parity.passed and check.passed,
        checks=[check, *parity.checks],
        compression=_compression(loaded, inputs, tables, metrics),
    )


def rounding_check(exact: ExportInputs, inputs: ExportInputs) -> m.Check:
    """Whether every row of the packed tables of `inputs` is about the row of the float32 table."""
    wanted, limit = float_tables(exact), ROUNDING[inputs.precision]
    errors = np.concatenate(
        [
            rounding(packed, wanted[name]) * (limit / ROUNDING[packed.packing.precision])
            for name, packed in inputs.packed.items()
        ]
    )
    worst = float(np.nan_to_num(errors.max(), nan=np.inf))
    return m.Check(
        graph="tables",
        provider="rounding",
        n=len(errors),
        max_error=min(worst, float(np.finfo(np.float32).max)),
        mean_error=float(errors.mean()),
        tolerance=limit,
        passed=worst <= limit,
    )


def _compression(
    loaded: LoadedRun, inputs: ExportInputs, tables: Sequence[m.Table], metrics: Mapping[str, Any] | None
) -> Compression:
    """Ratings and lists of the rounded model beside those of the run's."""
    data = loaded.interactions
    k = min(DEFAULT_K, data.n_items)
    n_bytes, n_float32 = table_bytes(tables)
    before = loaded.module, loaded.ranking_module or loaded.module
    after = inputs.module, inputs.ranking_module or inputs.module
    own = evaluate_run(loaded.run, k, models=before)
    found = evaluate_run(loaded.run, k, models=after) if metrics is None else metrics
    train = np.flatnonzero(~loaded.held_out)
    seen = RatedItems.of(data.user_index[train], data.item_index[train], data.n_users)
    users = np.sort(1 + np.random.default_rng(6).permutation(data.n_users)[:N_USERS]).astype(np.int64)
    lists = [_lists(models[1], data.n_items, users, seen, k) for models in (before, after)]
    common = (lists[0][:, :, None] == lists[1][:, None, :]) & (lists[0][:, :, None] > 0)
    return Compression(
        precision=inputs.precision,
        bytes=n_bytes,
        float32_bytes=n_float32,
        k=k,
        list_overlap=float(common.any(axis=2).sum() / max(1, np.count_nonzero(lists[0]))),
        n_users=len(users),
        float32_rmse=own.get("rmse"),
        rmse=found.get("rmse"),
        float32_ndcg=own.get("ndcg_at_k"),
        ndcg=found.get("ndcg_at_k"),
    )


def table_bytes(tables: Sequence[m.Table]) -> tuple[int, int]:
    """Bytes of all tables, each once, and of the same tables in float32."""
    beside = {table.name + end for table in tables if table.packing is not None for end in (SCALES, UNITS)}
    n_float32 = 0
    for table in tables:
        if table.packing is not None:
            n_float32 += 4 * table.shape[0] * table.packing.columns
        elif table.name not in beside:
            n_float32 += table.bytes
    return sum(table.bytes for table in tables), n_float32


def _lists(model: nn.Module, n_items: int, users: np.ndarray, seen: RatedItems, k: int) -> np.ndarray:
    """The lists of users without what they have rated in training: int64 [B, k]."""
    rank = ranker(model, n_items)
    batches = np.split(users, range(USERS_AT_ONCE, len(users), USERS_AT_ONCE))
    return np.concatenate([rank(batch, seen.padded(batch), k) for batch in batches])
