"""ONNX Runtime sessions on a device; the device in use is read from the session itself."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from serve.bundle.manifest import Graph
from serve.errors import BundleError, DeviceError, RequestError
from serve.runtime.cuda import ALLOCATING, has_cuda_gpu, on_cuda_thread
from serve.runtime.cuda_graphs import CapturedGraph, bind

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtValue

    GraphSession: TypeAlias = InferenceSession | CapturedGraph

Device = Literal["auto", "cpu", "cuda"]

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
LOG_WARNINGS, LOG_FATAL = 2, 4
TF32_TOLERANCES = 200
"""By how much TF32 multiplies the tolerances of a graph: to 0.002 of the scores' span. Of the 24 bits of a
number, it multiplies 11."""
INSTALL = (
    "It needs an NVIDIA GPU with its driver, and CUDA and cuDNN: "
    "pip install 'onnxruntime-gpu[cuda,cudnn]'. Use device='cpu' (--device cpu) to answer without it."
)


class OnCuda(NamedTuple):
    """What a session on CUDA does differently; the CPU has none of it."""

    tf32: bool = False
    """Multiply matrices in TensorFloat-32."""
    captured: bool = False
    """Capture a CUDA graph of each run (`CapturedGraph`)."""
    tables: Callable[[], Mapping[str, OrtValue]] = dict
    """Gives the tables that are on the device already, by name."""


PLAIN = OnCuda()


def open_session(
    path: Path,
    device: Device = "auto",
    *,
    threads: int | None = None,
    share_tables: bool = False,
    on_cuda: OnCuda = PLAIN,
) -> InferenceSession:
    """A session for the graph at `path`; `device` and `threads` as for `Recommender.load`.

    With `share_tables`, the CPU uses tables in external files as they are mapped, so that processes share
    their pages, instead of copying them into a layout that is faster for large batches.

    Raises:
        DeviceError: "cuda" does not work.
        BundleError: ONNX Runtime can't load the graph.
        RequestError: `device` is none of the three.
    """
    if device not in get_args(Device):
        raise RequestError(f"device must be one of {', '.join(get_args(Device))}, got {device!r}")
    if device == "cpu" or (device == "auto" and not has_cuda_gpu()):
        return _open(path, [CPU], threads, share_tables)
    import onnxruntime

    reason: object = "this onnxruntime is built without CUDA"
    if CUDA in onnxruntime.get_available_providers():
        try:
            with ALLOCATING:
                session = _open_on_cuda(path, threads, on_cuda)
            if session_device(session) == "cuda":
                return session
            reason = f"ONNX Runtime fell back to {session.get_providers()[0]}"
        except BundleError as error:
            reason = error.__cause__
    session = _open(path, [CPU], threads, share_tables)  # raises too if the graph is at fault
    if device == "cuda":
        raise DeviceError(f"device='cuda', but CUDA fails: {reason}. {INSTALL}")
    return session


def session_device(session: GraphSession) -> Literal["cpu", "cuda"]:
    """The device that a session uses."""
    return "cuda" if _plain(session).get_providers()[0] == CUDA else "cpu"


def check_signature(session: InferenceSession, declared: Graph, path: Path) -> None:
    """Compare a graph's inputs and outputs with the manifest's: names, types, ranks, and sizes such as K.

    Raises BundleError: they differ.
    """
    kinds = {
        "tensor(int64)": "int64",
        "tensor(float)": "float32",
        "tensor(string)": "string",
        "tensor(bool)": "bool",
    }
    for found, tensors in (
        (session.get_inputs(), declared.inputs),
        (session.get_outputs(), declared.outputs),
    ):
        named = {(one.name, kinds.get(one.type, one.type), _sizes(one.shape)) for one in found}
        promised = {(tensor.name, tensor.dtype, _sizes(tensor.shape)) for tensor in tensors}
        if named != promised:
            raise BundleError(f"{path} has {named}, its manifest promises {promised}. Export again.")


def _sizes(shape: Sequence[Any]) -> tuple[int | None, ...]:
    """The sizes of the axes; None where the size is known only with the inputs."""
    return tuple(size if isinstance(size, int) else None for size in shape)


def run(
    session: GraphSession, feeds: Mapping[str, np.ndarray], names: Sequence[str] | None = None
) -> list[np.ndarray]:
    """Outputs of a graph on the host: those of `names`; None: all, in the graph's order.

    Any number of threads may share a session.

    Raises BundleError: the graph fails.
    """
    try:
        if isinstance(session, CapturedGraph):
            return on_cuda_thread(partial(session.run, feeds, names))
        device = session_device(session)
        if device == "cpu":
            # Binding costs 15 microseconds, a sixth of a whole recommendation on a small bundle.
            outputs: list[np.ndarray] = session.run(names, feeds)
            return outputs
        return on_cuda_thread(partial(run_bound, session, feeds, device, names))
    except _failures() as error:
        raise BundleError(
            f"ONNX Runtime can't run the graph {_plain(session).get_modelmeta().graph_name}: {error}. Export "
            f"the bundle again."
        ) from error


def run_named(
    session: GraphSession, feeds: Mapping[str, np.ndarray], *, rows_per_run: int | None = None
) -> dict[str, np.ndarray]:
    """All outputs by name; with `rows_per_run`, in runs of so many rows of the inputs.

    An input of one row beside others of several is shared by all runs.

    Raises BundleError: the graph fails.
    """
    names = [one.name for one in _plain(session).get_outputs()]
    n_rows = max(map(len, feeds.values()))
    step = rows_per_run or max(n_rows, 1)
    parts = [
        run(
            session,
            {
                name: array if len(array) == 1 else array[start : start + step]
                for name, array in feeds.items()
            },
            names,
        )
        for start in range(0, max(n_rows, 1), step)
    ]
    joined = parts[0] if len(parts) == 1 else [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return dict(zip(names, joined, strict=True))


def run_bound(
    session: InferenceSession,
    feeds: Mapping[str, np.ndarray],
    device: str,
    names: Sequence[str] | None = None,
) -> list[np.ndarray]:
    """As `run`, by IOBinding: outputs are copied from the device to the host once, at the end."""
    binding = bind(session, feeds, device, names)
    session.run_with_iobinding(binding)
    outputs: list[np.ndarray] = binding.copy_outputs_to_cpu()
    return outputs


def _plain(session: GraphSession) -> InferenceSession:
    return session.session if isinstance(session, CapturedGraph) else session


def available_cpus() -> int:
    """Number of CPUs that this process may use; `taskset` or a container may limit it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _open_on_cuda(path: Path, threads: int | None, on_cuda: OnCuda) -> InferenceSession:
    import onnxruntime

    # Failures are reported by DeviceError, or lead to the CPU.
    onnxruntime.set_default_logger_severity(LOG_FATAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()  # CUDA and cuDNN as pip installed them
        asked = {"use_tf32": str(int(on_cuda.tf32)), "enable_cuda_graph": str(int(on_cuda.captured))}
        return _open(path, [(CUDA, asked), CPU], threads, tables=on_cuda.tables)
    finally:
        onnxruntime.set_default_logger_severity(LOG_WARNINGS)


def _open(
    path: Path,
    providers: list[Any],
    threads: int | None,
    share_tables: bool = False,
    tables: Callable[[], Mapping[str, OrtValue]] = dict,
) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cpus()
    options.inter_op_num_threads = 1
    # Threads that wait in a busy loop take CPU time from those that read and write: a batch job took a sixth
    # longer. Without the loop, a single recommendation takes a few microseconds longer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = LOG_FATAL  # errors are raised
    if share_tables:
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        for name, value in tables().items():
            options.add_initializer(name, value)
        return onnxruntime.InferenceSession(path, options, providers=providers, enable_fallback=0)
    except _failures() as error:
        raise BundleError(
            f"{path}: ONNX Runtime refuses the graph: {error}. Export the bundle again."
        ) from error


@cache
def _failures() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: a class of its own for each status, and RuntimeError or ValueError."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [one for one in vars(state).values() if isinstance(one, type) and issubclass(one, Exception)]
    # ValueError: text that is not UTF-8, too.
    return (*own, RuntimeError, ValueError)
