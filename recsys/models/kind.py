"""What a kind of model is. Imports no torch: the command line reads the table of kinds for its help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from recsys.data.interactions import Interactions

Objective = Literal["ratings", "ranking"]
"""What scores mean. "ratings": predicted ratings. "ranking": they order items, and mean nothing else."""


class Fit(Protocol):
    """A fit that is no gradient descent: a closed form, a sampler, alternating solves."""

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
            config: of the kind, with nothing left to "auto".
            seed: of all random numbers; the same seed gives the same tables.
            on_iteration: to be called after each iteration with its metrics by name; a closed form need not.

        Returns:
            float32 tables under the names and with the shapes of the built module's `state_dict()`. Row 0
            and the rows without a training rating may hold anything: they become the average row.
        """


@dataclass(frozen=True)
class Kind:
    """A kind of model: its config, its torch module, and how it is fitted."""

    name: str
    """As `recsys train --model` spells it."""
    config: type[Any]
    """A frozen dataclass of plain values, each with a default."""
    build: Callable[[Any, int, int], nn.Module]
    """(config, n_users, n_items) -> a module with new weights; it imports torch when it is called."""
    objectives: tuple[Objective, ...] = ("ratings",)
    """What its scores can mean; the first is the default."""
    fit: Fit | None = None
    """None: trained by gradient, by the loop of `recsys.training`."""
    weight_decay: float = 0.0
    """Default weight decay of a kind that is trained by gradient."""
