"""Opens a graph in each Python runtime, as a function from inputs to outputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from serve.errors import UnsupportedError

Feeds = Mapping[str, np.ndarray]
Run = Callable[[Feeds], dict[str, np.ndarray]]
Open = Callable[[Path, Sequence[str]], Run]


def onnxruntime(path: Path, outputs: Sequence[str]) -> Run:
    """ONNX Runtime on the CPU."""
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda feeds: dict(zip(outputs, session.run(list(outputs), dict(feeds)), strict=True))


def openvino(path: Path, outputs: Sequence[str]) -> Run:
    """OpenVINO on the CPU, in float32: its default may be bfloat16 where the processor has it.

    Raises:
        UnsupportedError: OpenVINO lacks an operator.
    """
    from openvino import Core

    try:
        model = Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        raise _unsupported(error) from error

    def run(feeds: Feeds) -> dict[str, np.ndarray]:
        found = model(dict(feeds))
        return {name: np.array(found[name]) for name in outputs}

    return run


def tract(path: Path, outputs: Sequence[str]) -> Run:
    """Sonos tract, whose outputs are matched by position: it names them after the nodes that make them.

    Raises:
        UnsupportedError: tract lacks an operator.
    """
    import tract as library

    try:
        inference = library.onnx().load(str(path))
        inputs = [inference.input_name(place) for place in range(inference.input_count())]
        model = inference.into_model().into_runnable()
    except library.TractError as error:
        raise _unsupported(error) from error

    def run(feeds: Feeds) -> dict[str, np.ndarray]:
        found = model.run([np.ascontiguousarray(feeds[name]) for name in inputs])
        return dict(zip(outputs, (tensor.to_numpy() for tensor in found), strict=True))

    return run


RUNTIMES: dict[str, Open] = {"onnxruntime": onnxruntime, "openvino": openvino, "tract": tract}


def _unsupported(error: Exception) -> UnsupportedError:
    """The missing operator, or the first line of the message."""
    text = str(error)
    missing = re.search(r"(?:for operations: |Unimplemented\()([\w.]+)", text)
    return UnsupportedError(
        f"no operator {missing[1].rsplit('.', 1)[-1]}" if missing else text.splitlines()[0]
    )
