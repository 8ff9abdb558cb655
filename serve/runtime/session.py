"""ONNX Runtime sessions on a device. Which device a session really uses is read from the session itself."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from serve.errors import BundleError, DeviceError, RequestError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Device = Literal["auto", "cpu", "cuda"]

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
LOG_WARNINGS, LOG_ERRORS, LOG_FATAL = 2, 3, 4
INSTALL = (
    "It needs an NVIDIA GPU with its driver, and CUDA and cuDNN: "
    "pip install 'onnxruntime-gpu[cuda,cudnn]'. Use device='cpu' (--device cpu) to answer without it."
)


def open_session(
    path: Path, device: Device = "auto", *, threads: int | None = None, share_tables: bool = False
) -> InferenceSession:
    """A session for one graph on the device that was asked for.

    "auto" takes CUDA where it truly works, else the CPU, silently and in no time on a machine without a GPU.
    `session_device` says which it is. TF32 is off: float32 means float32.

    Args:
        path: The graph.
        device: "auto", "cpu" or "cuda".
        threads: Threads of one call on the CPU; by default the CPUs that this process may use.
        share_tables: On the CPU, leave tables that lie in a file of their own as they are mapped, so that
            processes share their pages, rather than copy them into the layout that large batches like best.

    Raises:
        DeviceError: "cuda" is not really there.
        BundleError: ONNX Runtime can't load the graph.
        RequestError: there is no such device.
    """
    if device not in get_args(Device):
        raise RequestError(f"device must be one of {', '.join(get_args(Device))}, got {device!r}")
    if device == "cpu" or (device == "auto" and not has_cuda_gpu()):
        return _open(path, [CPU], threads, share_tables)
    import onnxruntime

    if CUDA not in onnxruntime.get_available_providers():
        if device == "auto":
            return _open(path, [CPU], threads, share_tables)
        raise DeviceError(f"device='cuda': this onnxruntime is built without CUDA. {INSTALL}")
    try:
        session = _open_on_cuda(path, threads)
    except BundleError as error:
        # The graph's fault, or the device's? The CPU tells, and serves "auto".
        session = _open(path, [CPU], threads, share_tables)
        if device == "cuda":
            raise DeviceError(f"device='cuda', but CUDA fails: {error.__cause__}. {INSTALL}") from error
    if device == "cuda" and session_device(session) != "cuda":
        raise DeviceError(
            f"device='cuda', but ONNX Runtime fell back to {session.get_providers()[0]}. {INSTALL}"
        )
    return session


def session_device(session: InferenceSession) -> Literal["cpu", "cuda"]:
    """Which device really serves a session."""
    return "cuda" if session.get_providers()[0] == CUDA else "cpu"


def run(session: InferenceSession, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a graph, in its order, on the host.

    Args:
        session: What `open_session` gave. Any number of threads may share it.
        feeds: Input name -> array, of the graph's type and rank.
    """
    device = session_device(session)
    if device == "cpu":
        # Binding costs 15 microseconds, a sixth of a whole recommendation on a small bundle.
        outputs: list[np.ndarray] = session.run(None, feeds)
        return outputs
    return run_bound(session, feeds, device)


def run_bound(session: InferenceSession, feeds: Mapping[str, np.ndarray], device: str) -> list[np.ndarray]:
    """As `run`, by IOBinding: outputs stay on the device and are copied to the host once, at the end."""
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    for output in session.get_outputs():
        binding.bind_output(output.name, device)
    session.run_with_iobinding(binding)
    outputs: list[np.ndarray] = binding.copy_outputs_to_cpu()
    return outputs


def available_cpus() -> int:
    """Number of CPUs that this process may use, as limited by `taskset` or a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_cuda_gpu() -> bool:
    """Whether the NVIDIA driver is there and sees a GPU.

    ONNX Runtime lists CUDA as available wherever it was built with it, and prints errors when it then fails.
    """
    import ctypes

    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _open_on_cuda(path: Path, threads: int | None) -> InferenceSession:
    import onnxruntime

    # Failures are reported by our own error, or lead to the CPU under device="auto".
    onnxruntime.set_default_logger_severity(LOG_FATAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            # Finds the CUDA and cuDNN libraries that pip installed.
            onnxruntime.preload_dlls()
        return _open(path, [(CUDA, {"use_tf32": "0"}), CPU], threads)
    finally:
        onnxruntime.set_default_logger_severity(LOG_WARNINGS)


def _open(
    path: Path, providers: list[Any], threads: int | None, share_tables: bool = False
) -> InferenceSession:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cpus()
    options.inter_op_num_threads = 1
    # Threads that wait in a busy loop take the CPU from whoever reads, looks ids up and writes meanwhile: a
    # batch job took a sixth longer. A single recommendation is a few microseconds slower without.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = LOG_ERRORS
    if share_tables:
        options.add_session_config_entry("session.disable_prepacking", "1")
    refusals = (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoModel,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers, enable_fallback=0)
    except refusals as error:
        raise BundleError(
            f"{path}: ONNX Runtime refuses the graph: {error}. Export the bundle again."
        ) from error
