"""CUDA in this process: whether it has a GPU, the thread that runs graphs, and tables that are there once."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeVar

from serve.bundle.bundle import Bundle

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from onnxruntime import OrtValue

    from serve.bundle.onnx_wire import WireTensor

T = TypeVar("T")

ALLOCATING = threading.Lock()
"""Held while a session is opened on CUDA, and during a capture, which fails if another thread allocates
memory of the GPU."""


def has_cuda_gpu() -> bool:
    """Whether the NVIDIA driver is installed and finds a GPU.

    ONNX Runtime lists CUDA as available wherever it was built with it, and prints errors when it fails.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def on_cuda_thread(work: Callable[[], T]) -> T:
    """What `work` returns, done by the one thread of this process that runs graphs on CUDA.

    ONNX Runtime keeps captured CUDA graphs for each thread. Runs on one GPU wait for each other anyway.
    """
    return _cuda_thread().submit(work).result()


@cache
def _cuda_thread() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # takes time to import, and the CPU needs none

    return ThreadPoolExecutor(1, "cuda")


class DeviceTables:
    """The tables in `tables.bin`, each of them once on a device for all graphs of a bundle that have it.

    Packed tables are left to ONNX Runtime, which unpacks them as it opens a graph.
    """

    def __init__(self, bundle: Bundle, device: Literal["cpu", "cuda"] = "cuda") -> None:
        self._bundle, self._device = bundle, device
        self._values: dict[WireTensor, tuple[OrtValue, OrtValue]] = {}

    def of(self, graph: str) -> dict[str, OrtValue]:
        """The tables of a graph by name, for `SessionOptions.add_initializer`; they live as long as this."""
        from onnxruntime import OrtValue

        tables = self._bundle.shared_tables(graph)
        for tensor, array in tables.items():
            if tensor not in self._values:
                owner = OrtValue.ortvalue_from_numpy(array, self._device)
                # `add_initializer` refuses a value that owns its memory; `add_external_initializers` would
                # copy it for each session (ONNX Runtime 1.31).
                self._values[tensor] = owner, OrtValue.from_dlpack(owner)
        return {tensor.name: self._values[tensor][1] for tensor in tables}
