"""The inputs of an export with packed tables, with a fold-in that still agrees with float64."""

from __future__ import annotations

from dataclasses import replace

from export.errors import GraphError
from export.graphs.fold_in import ridge_arrays
from export.model.inputs import ExportInputs
from export.model.packed_inputs import pack_inputs
from export.write.fold_in_choice import with_enough_steps
from export.write.list_fold_in_choice import with_enough_list_steps
from serve.bundle.packing import Precision


def packed_inputs(exact: ExportInputs, precision: Precision) -> ExportInputs:
    """Round the tables; the settings stay those of the exact model, with more steps where these need them."""
    inputs, left_out = pack_inputs(exact, precision), dict(exact.left_out)
    fold_in, histories = inputs.fold_in, inputs.sample.histories
    if fold_in is not None and fold_in.method == "ridge":
        try:
            fold_in = with_enough_steps(ridge_arrays(inputs.arrays), histories, fold_in)
        except GraphError as error:
            fold_in, left_out["fold_in"] = None, str(error)
        inputs = replace(inputs, fold_in=fold_in)
    if inputs.list_fold_in is not None:
        try:
            inputs = inputs.with_list_fold_in(with_enough_list_steps(inputs, inputs.list_fold_in))
        except GraphError as error:
            inputs, left_out["fold_in"] = replace(inputs, list_fold_in=None), str(error)
    return replace(inputs, left_out=left_out)
