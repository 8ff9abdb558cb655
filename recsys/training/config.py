"""Settings of training by gradient. Imports no torch, so that the command's help stays quick."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from recsys.errors import ConfigError

Precision = Literal["float32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the gradient loop trains a part of a run."""

    weight_decay: float
    """Decoupled: each step shrinks every weight, except the biases of layers, by learning rate x this. The
    default is `Kind.weight_decay`."""
    epochs: int = 5
    batch_size: int = 256
    """Ratings per step."""
    learning_rate: float = 5e-3
    """Peak of the one-cycle schedule."""
    precision: Precision = "float32"
    """bf16: the layers of a network run in bfloat16 (autocast); tables and sums stay in float32."""

    def __post_init__(self) -> None:
        for name, value in (("epochs", self.epochs), ("batch size", self.batch_size)):
            if value < 1:
                raise ConfigError(f"{name} is {value}: at least 1 is needed")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"learning rate is {self.learning_rate}: it must be a number above 0")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ConfigError(f"weight decay is {self.weight_decay}: it must be a number from 0 on")
