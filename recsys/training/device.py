"""The device of a training, and whether its code is compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from recsys.errors import ConfigError

DeviceName = Literal["auto", "cpu", "cuda"]
CompileMode = Literal["auto", "on", "off"]
Compilation = Literal["none", "plain", "captured"]
"""Not compiled; compiled; and the forward and the backward pass each replayed as a CUDA graph."""

SMALL_MODEL = 1 << 20
"""Parameters below which a step of the optimizer is too short for several threads."""


def choose_device(name: DeviceName, local_rank: int | None = None) -> torch.device:
    """Choose the device; "auto" is CUDA if torch can use it, and the CPU otherwise.

    `local_rank` is the number of this process on this machine, and of its GPU; None: a single process.

    Raises:
        ConfigError: "cuda" without a usable GPU, or more processes than GPUs.
    """
    usable = torch.cuda.is_available()
    if name == "cuda" and not usable:
        reason = "is built without CUDA" if torch.version.cuda is None else "finds no usable NVIDIA GPU"
        raise ConfigError(
            f"device 'cuda': torch {torch.__version__} {reason}. Use --device cpu, or repair the driver."
        )
    if not usable or name == "cpu":
        return torch.device("cpu")
    if local_rank is None:
        return torch.device("cuda")
    if local_rank >= (n_gpus := torch.cuda.device_count()):
        raise ConfigError(
            f"process {local_rank + 1} of this machine finds {n_gpus} GPUs, and each process needs one. "
            f"Start {n_gpus} processes (torchrun --nproc-per-node {n_gpus}), or use --device cpu."
        )
    return torch.device("cuda", local_rank)


@contextmanager
def fitting_threads(n_parameters: int, device: torch.device) -> Iterator[None]:
    """Use one thread for steps on few parameters on the CPU: a second one gains nothing, and waiting for it
    in every step makes training ten times slower while other programs run.
    """
    before = torch.get_num_threads()
    if device.type == "cpu" and n_parameters < SMALL_MODEL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compilation(mode: CompileMode, device: torch.device, n_ranks: int) -> Compilation:
    """How to compile; "auto": only on a GPU, because on a CPU compiling takes longer than it saves.

    Several ranks exchange gradients during the backward pass, which is not captured.
    """
    if mode == "off" or (mode == "auto" and device.type != "cuda"):
        return "none"
    return "captured" if device.type == "cuda" and n_ranks == 1 else "plain"


@contextmanager
def tf32_products(allowed: bool) -> Iterator[None]:
    """Whether GPUs multiply float32 matrices in TensorFloat-32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
