"""Settings of a training run. Reads no torch, so that the command's help stays quick."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from recsys.errors import ConfigError

Precision = Literal["float32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What decides a run's result, beside its data, its split and its model."""

    epochs: int = 5
    batch_size: int = 256
    """Ratings a step."""
    learning_rate: float = 5e-3
    """The highest of the one-cycle schedule."""
    weight_decay: float | None = None
    """Decoupled: each step takes `learning rate x this` off every weight, biases of layers excepted. What is
    right depends on the model; None: its config's `default_weight_decay`."""
    seed: int = 42
    """Of the new weights, the order of the ratings and dropout."""
    precision: Precision = "float32"
    """bf16: the layers of a network run in bfloat16 (autocast); tables and sums stay in float32."""

    def __post_init__(self) -> None:
        for name, value in (("epochs", self.epochs), ("batch size", self.batch_size)):
            if value < 1:
                raise ConfigError(f"{name} is {value}: at least 1 is needed")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"learning rate is {self.learning_rate}: it must be a number above 0")
        decay = self.weight_decay
        if decay is not None and not (math.isfinite(decay) and decay >= 0):
            raise ConfigError(f"weight decay is {decay}: it must be a number from 0 on")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}: it must not be negative")
