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
"""Parameters below which a step of the optimizer is too short to share."""


def choose_device(name: DeviceName, local_rank: int | None = None) -> torch.device:
    """Take CUDA for "auto" where torch can use it, else the CPU.

    Args:
        name: what was asked for.
        local_rank: of several processes on this machine, each of which takes its own GPU; None: only one.

    Raises:
        ConfigError: "cuda", where torch can't use it; or more processes than GPUs.
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
    """Train a small model on one thread: a second gains nothing, and where other programs run, waiting for
    it in every step made training ten times slower.
    """
    before = torch.get_num_threads()
    if device.type == "cpu" and n_parameters < SMALL_MODEL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def should_compile(mode: CompileMode, device: torch.device) -> bool:
    """Compile on a GPU only, unless told: on a CPU it warms up for longer than it saves at these sizes."""
    return mode == "on" or (mode == "auto" and device.type == "cuda")
