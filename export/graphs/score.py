"""`score.onnx`: the trained module itself, through torch's own exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from export.graphs.build import IR_VERSION, OPSET, stamp
from export.graphs.spec import SCORE_TOLERANCE, Comparison, GraphSpec, Runner, TensorSpec
from export.model.inputs import ExportInputs, Sample
from serve.bundle.conformance import Case

INPUTS = (TensorSpec("user_index", "int64", ("N",)), TensorSpec("item_index", "int64", ("N",)))
OUTPUTS = (TensorSpec("score", "float32", ("N",)),)


def score_graph(module: nn.Module) -> ir.Model:
    """Export any module with `forward(user_index, item_index) -> score`, in eval mode.

    Parameters become initializers under their own names. The module's training mode is restored.
    """
    # Two pairs, not one: a dimension of 1 would be taken for a constant.
    example = (torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    n = torch.export.Dim("N", min=1)
    was_training = module.training
    module.eval()
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                opset_version=OPSET,
                input_names=[tensor.name for tensor in INPUTS],
                output_names=[tensor.name for tensor in OUTPUTS],
                dynamic_shapes=({0: n}, {0: n}),
                verbose=False,
            )
    finally:
        module.train(was_training)
    assert program is not None
    model = program.model
    model.ir_version = IR_VERSION
    model.graph.name = "score"
    return stamp(model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's progress lines and its deprecation warnings about itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _cases(inputs: ExportInputs) -> list[Case]:
    """All pairs of some users and items, index 0 among both."""
    users, items = np.append(inputs.example_users, 0), np.append(inputs.example_items, 0)
    feeds = {"user_index": np.repeat(users, len(items)), "item_index": np.tile(items, len(users))}
    return [Case.of(feeds, {"score": inputs.arrays.scores64(users)[:, items].ravel()})]


def _tolerance(inputs: ExportInputs) -> dict[str, float]:
    return {"score": SCORE_TOLERANCE * inputs.score_span}


def _check(run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    user_index, item_index = sample.pairs
    found = run("score", {"user_index": user_index, "item_index": item_index})["score"].astype(np.float64)
    with torch.inference_mode():
        truth = inputs.module(torch.from_numpy(user_index), torch.from_numpy(item_index)).double().numpy()
    rated = np.isfinite(sample.ratings)
    rmse = None
    if rated.any() and inputs.scores == "ratings":
        both = np.stack([truth, found])[:, rated]
        rmse_torch, rmse_onnx = np.sqrt(np.mean((both - sample.ratings[rated]) ** 2, axis=1)).tolist()
        rmse = rmse_torch, rmse_onnx
    return Comparison(len(truth), np.abs(found - truth), _tolerance(inputs)["score"], rmse=rmse)


SPEC = GraphSpec(
    name="score",
    inputs=INPUTS,
    outputs=OUTPUTS,
    build=lambda inputs: score_graph(inputs.module),
    cases=_cases,
    check=_check,
    tolerance=_tolerance,
    max_batch=8192,  # a row is one score
)
