"""A kind of model. Imports no torch, because the help of the commands lists the kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from recsys.data.interactions import Interactions

Objective = Literal["ratings", "ranking"]
"""Meaning of the scores. "ratings": predicted ratings. "ranking": only their order has a meaning."""


class Fit(Protocol):
    """A fit without gradient descent: a closed form, a sampler, alternating solves."""

    def __call__(
        self,
        ratings: Interactions,
        config: Any,
        *,
        seed: int,
        device: torch.device,
        on_progress: Callable[[int, int], None],
        on_iteration: Callable[[Mapping[str, float]], None],
    ) -> Mapping[str, np.ndarray]:
        """Fit the tables of a model.

        Args:
            ratings: the training ratings alone, of all users and items.
            config: of the kind, without "auto".
            seed: of all random numbers; the same seed gives the same tables.
            device: of the arithmetic.
            on_progress: called with the number of iterations done, and of all of them.
            on_iteration: called with the metrics of an iteration, by name, as often as they are of interest.

        Returns:
            float32 tables with the names and shapes of the built module's `state_dict()`. Row 0 is ignored
            (it becomes the average row), and so are rows without a training rating, unless the kind
            `fits_untrained_rows`.
        """


@dataclass(frozen=True)
class Kind:
    """A kind of model: its config, its torch module, and how it is fitted."""

    name: str
    """Its name in `recsys train --model`."""
    config: type[Any]
    """A frozen dataclass of plain values, each with a default."""
    build: Callable[[Any, int, int], nn.Module]
    """(config, n_users, n_items) -> a module with new weights. Imports torch when it is called."""
    objectives: tuple[Objective, ...] = ("ratings",)
    """The possible meanings of its scores; the first is the default."""
    fit: Fit | None = None
    """None: trained by gradient, by the loop of `recsys.training`."""
    memory: Callable[[Any, int, int, int], int] | None = None
    """Bytes that `fit` takes at its peak beside the data, about: (config, n_users, n_items, n_ratings)."""
    fits_untrained_rows: bool = False
    """Whether `fit` gives a user or item without a training rating its own row, from features."""
    weight_decay: float = 0.0
    """Default weight decay of a kind that is trained by gradient."""
