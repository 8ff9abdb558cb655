"""Start a new model from tables that were trained on other data: transfer learning in its simplest form.

Items of both data sets start with the source's rows; other items, and all users, start as the average.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from recsys.data.interactions import Interactions
from recsys.errors import ConfigError
from recsys.models import kind_of
from recsys.models.tables import ITEM_TABLES, USER_TABLES
from recsys.training.checkpoint import load_run
from recsys.training.distributed import leads
from recsys.training.run_info import MatchBy, StartedFrom
from recsys.training.settings import difference
from serve.terminal import printable

SHOWN = 3
# Two editions of one catalogue spell a few titles differently; two catalogues with unrelated ids agree in
# almost none (MovieLens 100K and latest-small: 3 of 1,268).
DIFFERENT_TITLES = 0.1

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A trained model with its items."""

    source: str
    """Path of its run or bundle."""
    kind: str
    config: dict[str, Any]
    """Of the model, as plain values."""
    items: pd.DataFrame
    """`item_id` and, if known, `title`, in index order."""
    state: Mapping[str, np.ndarray]
    """Tables and layers under the model's names; row 0 of a table is the average."""

    def settings(
        self, models: str | Sequence[str] | None, asked: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """Arguments of `new_settings` for a model of this kind and shape, with other settings as asked.

        Raises:
            ConfigError: another kind, another shape or several parts were asked for, or it is of a kind that
                is fitted.
        """
        if kind_of(self.kind).fit:
            raise ConfigError(
                f"{self.source} is a {self.kind} model, which is fitted in one go and starts from no other "
                f"tables: leave --init-from out, or name a dot, dot-bias or mlp model"
            )
        named = [models] if isinstance(models, str) else list(models or [])
        if named not in ([], [self.kind]):
            raise ConfigError(
                f"{self.source} is a {self.kind} model, not a {' and '.join(named)}: leave --model out"
            )
        config = dict(self.config)
        if "n_user_factors" in config:  # None would mean the widths that fit the new tables
            config["n_user_factors"] = self.state["user_factors"].shape[1]
            config["n_item_factors"] = self.state["item_factors"].shape[1]
        stored = config | {"factors": self.state["item_factors"].shape[1]}
        asked = {name: value for name, value in asked.items() if value is not None}
        if changed := difference(asked, stored):
            raise ConfigError(
                f"{self.source} has {changed}: its tables fit no other model. Leave the option out."
            )
        return self.kind, config | {name: value for name, value in asked.items() if name != "factors"}


@dataclass(frozen=True, eq=False)
class WarmStart:
    """A pretrained model, matched with new data."""

    source: Pretrained
    rows: np.ndarray
    """int64 [1 + n_items]: the source's row of each item; 0, the average item, if it has none."""
    summary: StartedFrom
    description: str
    """What matched, with examples, in a few lines."""


def read_run(path: Path) -> Pretrained:
    """Read the main part of a run folder.

    Raises:
        CheckpointError: it is incomplete or damaged.
    """
    run = load_run(path)
    state = {name: tensor.numpy() for name, tensor in run.part.model().state_dict().items()}
    part = run.info.part
    return Pretrained(str(path), part.kind, part.config, run.interactions().items, state)


def match_items(source: Pretrained, interactions: Interactions, match_by: MatchBy) -> WarmStart:
    """Match the items of both by id or title. A title of several items matches none.

    Logs a warning if ids match and titles do not: the same ids may mean other items.

    Raises:
        ConfigError: no titles to match by, no matching item, or ratings outside of the source's range.
    """
    name, y_range = interactions.name, source.config.get("y_range")
    low, high = float(interactions.ratings.min()), float(interactions.ratings.max())
    if y_range is not None and not (y_range[0] <= low and high <= y_range[1]):
        raise ConfigError(
            f"{name} has ratings from {low:g} to {high:g}, and {source.source} scores from {y_range[0]:g} to "
            f"{y_range[1]:g}: its tables are of another scale. Rescale the ratings."
        )
    column = "item_id" if match_by == "id" else "title"
    for data, items in ((source.source, source.items), (name, interactions.items)):
        if column not in items or items[column].isna().all():
            raise ConfigError(
                f"{data} has no titles: use --match-items id. (Titles come with folders and zips in the "
                f"layouts of MovieLens and RecBole.)"
            )
    theirs, ours = source.items[column], interactions.items[column]
    shown = [
        ", ".join([*map(repr, keys.head(SHOWN)), *["…"][: len(keys) - SHOWN]]) for keys in (theirs, ours)
    ]
    if pd.api.types.is_integer_dtype(theirs) != pd.api.types.is_integer_dtype(ours):
        raise ConfigError(
            f"{source.source} has item ids like {shown[0]}, {name} like {shown[1]}: they can't be the same. "
            f"Use --match-items title, if both have titles."
        )
    rows = pd.Series(np.arange(1, 1 + len(theirs)), index=theirs)
    rows = rows[rows.index.notna() & ~rows.index.duplicated(keep=False)]
    found = rows.reindex(ours.where(~ours.duplicated(keep=False))).fillna(0).to_numpy(np.int64)
    matched = found > 0
    if not matched.any():
        raise ConfigError(
            f"none of the {len(ours):,} items of {name} is in {source.source} by {match_by} (there: "
            f"{shown[0]}; here: {shown[1]}). Try --match-items {'title' if match_by == 'id' else 'id'}."
        )
    if match_by == "id":
        _compare_titles(source, interactions, found)
    left = ~np.isin(np.arange(1, 1 + len(theirs)), found)
    lines = [
        f"start: {matched.sum():,} of {len(ours):,} items have rows in {source.source}, by {match_by}; every "
        f"user starts as its average user"
    ]
    for items, with_id, what in (
        (source.items.iloc[found[matched] - 1], match_by == "id", "found there"),
        (interactions.items[~matched], False, "not there, start as its average item"),
        (source.items[left], False, "there and not here, left out"),
    ):
        if len(items):
            lines.append(f"  {len(items):,} {what}: {_names(items, with_id)}")
    return WarmStart(
        source,
        np.concatenate([[0], found]),
        StartedFrom(
            source=source.source,
            match_by=match_by,
            n_matched=int(matched.sum()),
            n_new=int((~matched).sum()),
            n_left=int(left.sum()),
        ),
        printable("\n".join(lines)),
    )


def _compare_titles(source: Pretrained, interactions: Interactions, found: np.ndarray) -> None:
    """Warn if items that match by id have other titles; `found` is int64 [n_items], rows of the source."""
    if not leads() or "title" not in source.items or "title" not in interactions.items:
        return
    both = interactions.items.loc[found > 0, ["item_id", "title"]]
    both = both.assign(there=source.items["title"].to_numpy()[found[found > 0] - 1]).dropna()
    different = both[both["title"] != both["there"]]
    if len(different) > DIFFERENT_TITLES * len(both):
        examples = "; ".join(
            f"{item_id} is {there!r} there and {here!r} here"
            for item_id, here, there in different.head(SHOWN).itertuples(index=False)
        )
        log.warning(
            f"{len(different):,} of {len(both):,} items that match by id have another title in "
            f"{source.source}: {examples}. If these are other items, use --match-items title."
        )


def _names(items: pd.DataFrame, with_id: bool) -> str:
    """The first few items, by title if there are any, and by id."""
    first = items.head(SHOWN)
    names = first["item_id"].astype(str)
    if "title" in items:
        titles = first["title"].astype(str)
        names = names + " (" + titles + ")" if with_id else titles
    return ", ".join([*names, *["…"][: len(items) - SHOWN]])


@torch.no_grad()
def take_over(model: nn.Module, start: WarmStart) -> None:
    """Overwrite, in place, the weights of a new model of the source's kind and config.

    Raises:
        ConfigError: the source has no such weight, or one of another shape.
    """
    source = start.source
    for name, parameter in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue  # not in bundles, and without effect
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
    """The rows of items that come from the source and have no training rating, which keep their values.

    Without this, weight decay would shrink them, and `average_untrained_rows` would overwrite them. The model
    has just been taken over, or is that of a resumed run; `trained_items` is bool [1 + n_items].
    """

    def __init__(self, model: nn.Module, trained_items: Tensor) -> None:
        factors = model.get_parameter("item_factors").detach()
        # The rows of other items without a training rating equal the average, row 0.
        self.items = (factors != factors[0]).any(dim=1) & ~trained_items
        tables = {name: table for name, table in model.named_parameters() if name in ITEM_TABLES}
        self._rows = {name: table.detach()[self.items].clone() for name, table in tables.items()}

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        """Write the rows back, in place."""
        for name, rows in self._rows.items():
            model.get_parameter(name)[self.items] = rows
