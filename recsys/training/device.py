"""Which device trains, and whether its code is compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from recsys.errors import ConfigError

DeviceName = Literal["auto", "cpu", "cuda"]
CompileMode = Literal["auto", "on", "off"]

SMALL_MODEL = 1 << 20
"""Parameters below which a step of the optimizer is too short for several threads."""


def choose_device(name: DeviceName, local_rank: int | None = None) -> torch.device:
    """Choose the device; "auto" is CUDA if torch can use it, and the CPU otherwise.

    Args:
        name: as asked for.
        local_rank: number of this process among those on this machine, each of which takes its own GPU;
            None: a single process.

    Raises:
        ConfigError: "cuda" without a usable GPU, or more processes than GPUs.
    """
    usable = torch.cuda.is_available()
    if name == "cuda" and not usable:
        build = f"torch {torch.__version__}"
        reason = "is built without CUDA" if torch.version.cuda is None else "finds no usable NVIDIA GPU"
        raise ConfigError(
            f"device 'cuda': {build} {reason}. Use --device cpu, or repair the driver or torch."
        )
    if not usable or name == "cpu":
        return torch.device("cpu")
    if local_rank is None:
        return torch.device("cuda")
    if local_rank >= (n_gpus := torch.cuda.device_count()):
        raise ConfigError(
            f"process {local_rank + 1} of this machine finds {n_gpus} GPUs, none of them its own. Start "
            f"{n_gpus} processes (torchrun --nproc-per-node {n_gpus}), or use --device cpu."
        )
    return torch.device("cuda", local_rank)


@contextmanager
def fitting_threads(device: torch.device, n_parameters: int) -> Iterator[None]:
    """Train a small model on one thread: a second one gains nothing, and waiting for it in every step made
    training ten times slower where other programs were running.
    """
    before = torch.get_num_threads()
    if device.type == "cpu" and n_parameters < SMALL_MODEL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def should_compile(mode: CompileMode, device: torch.device) -> bool:
    """Whether to compile; "auto": on a GPU only, since on a CPU compiling takes longer than it saves."""
    return mode == "on" or (mode == "auto" and device.type == "cuda")
