"""`score.onnx`: the trained module itself, through torch's own exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx_ir as ir
import torch
from torch import nn

from export.graphs.build import IR_VERSION, OPSET, stamp


def score_graph(module: nn.Module) -> ir.Model:
    """The graph of any module with `forward(user_index, item_index) -> score`.

    Parameters become initializers under their own names. The module is exported in eval mode and left as
    it was.

    Inputs: `user_index` int64 [N], `item_index` int64 [N]. Outputs: `score` float32 [N].
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
                input_names=["user_index", "item_index"],
                output_names=["score"],
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
