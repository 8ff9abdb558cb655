"""Start a new site's model from tables that were trained elsewhere: transfer learning in its simplest form.

Items that both sites have start with the source's rows; other items, and all users, start as the average.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from recsys.data.interactions import Interactions
from recsys.errors import ConfigError
from recsys.models.tables import ITEM_TABLES, USER_TABLES
from recsys.training.checkpoint import load_run
from recsys.training.distributed import leads
from recsys.training.run_info import MatchBy, StartedFrom

SHOWN = 3
# Two editions of one catalogue differ in the spelling of a few titles; two catalogues with ids of their own
# agree in almost none (MovieLens 100K and latest-small: 3 of 1,268).
DIFFERENT_TITLES = 0.1

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A model that was trained elsewhere, with its items."""

    source: str
    """Where it was read from."""
    kind: str
    config: dict[str, Any]
    """Of the model, as plain values."""
    items: pd.DataFrame
    """`item_id` and where known `title`, in index order."""
    state: Mapping[str, np.ndarray]
    """Tables and layers under the model's own names; row 0 of a table is the average."""

    def settings(
        self, models: str | Sequence[str] | None, asked: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """Arguments of `new_settings` for a model of this one's kind and shape, with all else as asked.

        Raises:
            ConfigError: another kind of model, another shape or several parts were asked for.
        """
        named = [models] if isinstance(models, str) else list(models or [])
        if named not in ([], [self.kind]):
            raise ConfigError(
                f"{self.source} is a {self.kind} model, not a {' and '.join(named)}: leave --model out"
            )
        config = dict(self.config)
        if "n_user_factors" in config:  # left to the tables' sizes, they would follow the new tables
            config["n_user_factors"] = self.state["user_factors"].shape[1]
            config["n_item_factors"] = self.state["item_factors"].shape[1]
        asked = {name: value for name, value in asked.items() if value is not None}
        stored = config | {"factors": self.state["item_factors"].shape[1]}
        for name, value in asked.items():
            if name in stored and not _same(value, stored[name]):
                raise ConfigError(
                    f"{self.source} has {name.replace('_', ' ')} {stored[name]}, and {value} was asked for: "
                    f"its tables fit no other model. Leave the option out."
                )
        asked.pop("factors", None)
        return self.kind, config | asked


@dataclass(frozen=True, eq=False)
class WarmStart:
    """A pretrained model, matched with new data."""

    source: Pretrained
    rows: np.ndarray
    """int64 [1 + n_items]: the source's row of each item; 0, the average item, if it has none."""
    summary: StartedFrom
    matched: list[str]
    """A few items that take over the source's rows, as the source names them."""
    new: list[str]
    """A few items that start as the average."""
    left: list[str]
    """A few items that the new data does not have."""


def read_run(path: Path) -> Pretrained:
    """Read the main part of a run folder.

    Raises:
        CheckpointError: it is incomplete or damaged.
    """
    run = load_run(path)
    state = {name: tensor.numpy() for name, tensor in run.model().state_dict().items()}
    return Pretrained(str(path), run.kind, run.info.part.config, run.interactions().items, state)


def match_items(source: Pretrained, interactions: Interactions, match_by: MatchBy) -> WarmStart:
    """Find the items that both have. A title that several items share matches none.

    Logs a warning where ids match and titles do not: the same ids may mean other items.

    Raises:
        ConfigError: no titles to match by, no item matches, or the ratings are outside the source's range.
    """
    _check_scale(source, interactions)
    column = "item_id" if match_by == "id" else "title"
    keys = []
    for name, items in ((source.source, source.items), (interactions.name, interactions.items)):
        if column not in items or items[column].isna().all():
            raise ConfigError(
                f"{name} has no titles: use --match-items id. (Titles come with folders and zips in the "
                f"layouts of MovieLens and RecBole.)"
            )
        keys.append(items[column])
    theirs, ours = keys
    if pd.api.types.is_integer_dtype(theirs) != pd.api.types.is_integer_dtype(ours):
        raise ConfigError(
            f"{source.source} has item ids like {_some(theirs)}, {interactions.name} like "
            f"{_some(ours)}: they can't be the same. Use --match-items title, if both have titles."
        )
    rows = pd.Series(np.arange(1, 1 + len(theirs)), index=theirs)
    rows = rows[rows.index.notna() & ~rows.index.duplicated(keep=False)]
    found = rows.reindex(ours.where(~ours.duplicated(keep=False))).fillna(0).to_numpy(np.int64)
    taken = found > 0
    if not taken.any():
        raise ConfigError(
            f"none of the {len(ours):,} items of {interactions.name} is in {source.source} by {match_by} "
            f"(there: {_some(theirs)}; here: {_some(ours)}). "
            f"Try --match-items {'title' if match_by == 'id' else 'id'}."
        )
    if match_by == "id":
        _compare_titles(source, interactions, found)
    left = np.ones(1 + len(theirs), bool)
    left[0] = False
    left[found] = False
    examples = (
        _names(source.items.iloc[found[taken][:SHOWN] - 1], with_id=match_by == "id"),
        _names(interactions.items[~taken]),
        _names(source.items[left[1:]]),
    )
    summary = StartedFrom(
        source=source.source,
        match_by=match_by,
        n_matched=int(taken.sum()),
        n_new=int((~taken).sum()),
        n_left=int(left.sum()),
    )
    return WarmStart(source, np.concatenate([[0], found]), summary, *examples)


def _compare_titles(source: Pretrained, interactions: Interactions, found: np.ndarray) -> None:
    """Warn where items that match by id have other titles; `found` is int64 [n_items], rows of the source."""
    if not leads() or "title" not in source.items or "title" not in interactions.items:
        return
    both = pd.DataFrame(
        {
            "item_id": interactions.items["item_id"][found > 0].to_numpy(),
            "here": interactions.items["title"][found > 0].to_numpy(),
            "there": source.items["title"].iloc[found[found > 0] - 1].to_numpy(),
        }
    ).dropna()
    different = both[both["here"] != both["there"]]
    if len(different) <= DIFFERENT_TITLES * len(both):
        return
    examples = "; ".join(
        f"{item_id} is {there!r} there and {here!r} here"
        for item_id, here, there in different.head(SHOWN).itertuples(index=False)
    )
    log.warning(
        f"{len(different):,} of {len(both):,} items that match by id have another title in "
        f"{source.source}: {examples}. If these are other items, use --match-items title."
    )


def _names(items: pd.DataFrame, *, with_id: bool = False) -> list[str]:
    """The first few items, by title where there are any."""
    ids = items["item_id"].head(SHOWN).astype(str)
    if "title" not in items:
        return ids.tolist()
    titles = items["title"].head(SHOWN).astype(str)
    return (ids + " (" + titles + ")" if with_id else titles).tolist()


def _check_scale(source: Pretrained, interactions: Interactions) -> None:
    y_range = source.config.get("y_range")
    lowest, highest = float(interactions.ratings.min()), float(interactions.ratings.max())
    if y_range is not None and not (y_range[0] <= lowest and highest <= y_range[1]):
        raise ConfigError(
            f"{interactions.name} has ratings from {lowest:g} to {highest:g}, and {source.source} scores "
            f"from {y_range[0]:g} to {y_range[1]:g}: its tables mean another scale. Rescale the ratings."
        )


@torch.no_grad()
def take_over(model: nn.Module, start: WarmStart) -> None:
    """Overwrite, in place, the weights of a new model of the source's kind and config.

    Raises:
        ConfigError: the source lacks a weight, or has it in another shape.
    """
    source = start.source
    for name, parameter in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue  # counts steps; nothing reads it
        if name not in source.state:
            raise ConfigError(f"{source.source} has no {name}: it can't start a model of this kind")
        values = source.state[name]
        if name in ITEM_TABLES:
            values = values[start.rows]
        elif name in USER_TABLES:
            values = np.broadcast_to(values[0], parameter.shape)
        if values.shape != tuple(parameter.shape):
            shapes = f"{list(values.shape)}, not {list(parameter.shape)}"
            raise ConfigError(f"{source.source} has {name} as {shapes}: it can't start this model")
        parameter.copy_(torch.from_numpy(np.array(values)))


class KeptRows:
    """Rows of items that come from the source and that no rating here trains.

    They keep the source's values: weight decay would shrink them, and they are no unknown items, which would
    get the average row.

    Args:
        model: before training, or as a resumed run has it.
        trained_items: bool [1 + n_items], True where a training rating touches the row.
    """

    def __init__(self, model: nn.Module, trained_items: Tensor) -> None:
        factors = model.get_parameter("item_factors").detach()
        # Items without a row of their own hold the average, which is row 0.
        self.items = (factors != factors[0]).any(dim=1) & ~trained_items
        self._rows = {name: table.detach()[self.items].clone() for name, table in _item_tables(model)}

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        """Write the rows back, in place."""
        for name, table in _item_tables(model):
            table[self.items] = self._rows[name]


def _item_tables(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, table) for name, table in model.named_parameters() if name in ITEM_TABLES)


def _same(asked: object, stored: object) -> bool:
    listed = [list(value) if isinstance(value, tuple) else value for value in (asked, stored)]
    return listed[0] == listed[1]


def _some(values: pd.Series) -> str:
    shown = [repr(value) for value in values.head(SHOWN).tolist()]
    return ", ".join([*shown, "…"] if len(values) > SHOWN else shown)
