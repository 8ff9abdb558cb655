"""A kind of model. Imports no torch, because the help of the commands lists the kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
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
        on_iteration: Callable[[Mapping[str, float]], None],
    ) -> Mapping[str, np.ndarray]:
        """Fit the tables of a model.

        Args:
            ratings: the training ratings alone, of all users and items.
            config: of the kind, without "auto".
            seed: of all random numbers; the same seed gives the same tables.
            on_iteration: called after each iteration, if there are any, with its metrics by name.

        Returns:
            float32 tables with the names and shapes of the built module's `state_dict()`. Row 0 and the rows
            without a training rating are ignored: they become the average row.
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
    weight_decay: float = 0.0
    """Default weight decay of a kind that is trained by gradient."""
