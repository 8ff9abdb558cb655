"""CUDA graphs: all kernels of a run are launched at once, in every run whose inputs have the same sizes.

A captured graph reads and writes fixed addresses. So inputs are padded to one of few sizes, each of which has
arrays of its own on the GPU and is captured at its first use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from serve.errors import BundleError
from serve.runtime.cuda import ALLOCATING

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding, NodeArg, OrtValue, RunOptions

SMALLEST_WIDTH = 16
LARGEST_INPUT = 1 << 20
"""Numbers of an input up to which a run is captured (8 MiB): the arrays of every size stay on the GPU."""
NOT_CAPTURED = -1
"""As the id of a graph: ONNX Runtime neither captures nor replays."""
DTYPES = {"tensor(int64)": np.int64, "tensor(float)": np.float32}


def padded_rows(n_rows: int, largest: int) -> int:
    """The next power of two, at most `largest`."""
    return min(1 << max(n_rows - 1, 0).bit_length(), largest)


def padded_width(width: int) -> int:
    """The next power of four from 16 on: a width that only pads costs little beside the product."""
    size = SMALLEST_WIDTH
    while size < width:
        size *= 4
    return size


def bind(
    session: InferenceSession, feeds: Mapping[str, np.ndarray], device: str, names: Sequence[str] | None
) -> IOBinding:
    """Inputs of any size, copied to the device, and outputs that are made there; `names` as for `run`."""
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    for name in names or [output.name for output in session.get_outputs()]:
        binding.bind_output(name, device)
    return binding


class CapturedGraph:
    """A session with CUDA graphs, whose inputs have a row for each user or item, padded with 0 to any width.

    For one thread at a time, and always the same one: ONNX Runtime keeps the captured graphs of each thread.
    On the CPU, where nothing is captured, it answers likewise.
    """

    def __init__(
        self, session: InferenceSession, largest_rows: int, device: Literal["cpu", "cuda"] = "cuda"
    ) -> None:
        """`session` has the option `enable_cuda_graph`; runs of more than `largest_rows` are not captured.

        Raises BundleError: an input or output is neither int64 nor float32, or has no row for each user.
        """
        for one in (*session.get_inputs(), *session.get_outputs()):
            if one.type not in DTYPES or not one.shape or isinstance(one.shape[0], int):
                raise _refusal(session, one)
        for one in session.get_outputs():
            if not all(isinstance(size, int) for size in one.shape[1:]):
                raise _refusal(session, one)
        self.session = session
        self._inputs = [one.name for one in session.get_inputs()]
        self._largest_rows, self._device = largest_rows, device
        self._sizes: dict[tuple[int, ...], _Size] = {}

    @property
    def n_sizes(self) -> int:
        """Sizes of inputs that have been captured."""
        return len(self._sizes)

    def run(self, feeds: Mapping[str, np.ndarray], names: Sequence[str] | None = None) -> list[np.ndarray]:
        """Outputs of the graph on the host, as `session.run` gives them."""
        n_rows = len(feeds[self._inputs[0]])
        rows = padded_rows(n_rows, self._largest_rows)
        shapes = {name: (rows, *map(padded_width, feeds[name].shape[1:])) for name in self._inputs}
        if n_rows > rows or max(map(np.prod, shapes.values())) > LARGEST_INPUT:
            binding = bind(self.session, feeds, self._device, names)
            self.session.run_with_iobinding(binding, _run_options(NOT_CAPTURED))
            outputs: list[np.ndarray] = binding.copy_outputs_to_cpu()
            return outputs
        key = tuple(size for shape in shapes.values() for size in shape)
        if key in self._sizes:
            size = self._sizes[key]
            self._run(size, feeds)
        else:
            with ALLOCATING:
                size = self._new_size(shapes)
                self._run(size, feeds)
            self._sizes[key] = size
        # Copies: on the CPU, `numpy` shows the memory that the next run of this size writes.
        return [size.outputs[name].numpy()[:n_rows].copy() for name in names or size.outputs]

    def _run(self, size: _Size, feeds: Mapping[str, np.ndarray]) -> None:
        for name, array in feeds.items():
            padded = np.zeros(size.inputs[name].shape(), array.dtype)
            padded[tuple(slice(n) for n in array.shape)] = array
            size.inputs[name].update_inplace(padded)
        self.session.run_with_iobinding(size.binding, size.options)

    def _new_size(self, shapes: Mapping[str, tuple[int, ...]]) -> _Size:
        """Arrays on the device for inputs of these shapes, bound to the session."""
        from onnxruntime import OrtValue

        binding, rows = self.session.io_binding(), next(iter(shapes.values()))[0]
        inputs, outputs = {}, {}
        for one in self.session.get_inputs():
            shape = shapes[one.name]
            value = OrtValue.ortvalue_from_shape_and_type(shape, DTYPES[one.type], self._device)
            inputs[one.name] = value
            binding.bind_ortvalue_input(one.name, value)
        for one in self.session.get_outputs():
            shape = (rows, *one.shape[1:])
            value = OrtValue.ortvalue_from_shape_and_type(shape, DTYPES[one.type], self._device)
            outputs[one.name] = value
            binding.bind_ortvalue_output(one.name, value)
        return _Size(binding, _run_options(len(self._sizes)), inputs, outputs)


class _Size(NamedTuple):
    """What the runs of one size share."""

    binding: IOBinding
    options: RunOptions
    inputs: dict[str, OrtValue]
    outputs: dict[str, OrtValue]


def _refusal(session: InferenceSession, one: NodeArg) -> BundleError:
    name = session.get_modelmeta().graph_name
    return BundleError(f"{name} can't be captured: {one.name} is {one.type} {one.shape}")


def _run_options(graph_id: int) -> RunOptions:
    from onnxruntime import RunOptions

    options = RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph_id))
    return options
