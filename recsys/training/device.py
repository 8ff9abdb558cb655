"""Which device trains, and whether its code is compiled."""

from __future__ import annotations

from typing import Literal

import torch

from recsys.errors import ConfigError

DeviceName = Literal["auto", "cpu", "cuda"]
CompileMode = Literal["auto", "on", "off"]


def choose_device(name: DeviceName) -> torch.device:
    """Take CUDA for "auto" where torch can use it, else the CPU.

    Raises:
        ConfigError: "cuda", where torch can't use it.
    """
    usable = torch.cuda.is_available()
    if name == "cuda" and not usable:
        build = f"torch {torch.__version__}"
        reason = "is built without CUDA" if torch.version.cuda is None else "finds no usable NVIDIA GPU"
        raise ConfigError(
            f"device 'cuda': {build} {reason}. Use --device cpu, or repair the driver or torch."
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and usable) else "cpu")


def should_compile(mode: CompileMode, device: torch.device) -> bool:
    """Compile on a GPU only, unless told: on a CPU it warms up for longer than it saves at these sizes."""
    return mode == "on" or (mode == "auto" and device.type == "cuda")
