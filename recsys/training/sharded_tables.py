"""Tables whose rows lie over the ranks: each rank owns a range of the users' rows and one of the items'.

In each step a rank asks the owners for the rows that its ratings use, computes, and returns the rows'
gradients. Only an owner updates its rows, by `SparseAdamW`, so that weights, moments and their updates take
1 / ranks of the memory. The result is that of one process with the same steps, up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call

from recsys.errors import ConfigError
from recsys.models import build
from recsys.models.rating_unit import in_unit
from recsys.models.tables import ITEM_TABLES, USER_TABLES, normal_table
from recsys.training.checkpoint import Part
from recsys.training.distributed import ROWS_AT_ONCE, Team, is_launched
from recsys.training.learner import Setting, compiled
from recsys.training.optimizer import one_cycle
from recsys.training.run_info import PartInfo
from recsys.training.sparse_adam import MissedSteps, SparseAdamW
from recsys.training.tensor_file import ShardedRows

KINDS_WITH_SHARDS = ("dot", "dot-bias")
SIDES = (USER_TABLES, ITEM_TABLES)


def check_shardable(parts: Sequence[PartInfo], *, warm: bool) -> None:
    """Check that parts can be trained with tables over the ranks; `warm`: from a pretrained model.

    Raises:
        ConfigError: another kind or objective, updates of all rows, a pretrained model, or a single process.
    """
    for part in parts:
        if part.kind not in KINDS_WITH_SHARDS or part.objective != "ratings":
            other = f"{part.kind} to rank" if part.objective == "ranking" else part.kind
            raise ConfigError(
                f"--shard-tables trains {' or '.join(KINDS_WITH_SHARDS)} to predict ratings, not {other}: "
                f"leave it out, or name such a --model alone."
            )
        if part.training and part.training.sparse_updates == "off":
            raise ConfigError(
                "--shard-tables changes only the rows that a step uses: leave out --sparse-updates off."
            )
    if warm:
        raise ConfigError("--shard-tables starts from new weights: leave out it or --init-from.")
    if not is_launched():
        raise ConfigError(
            "--shard-tables needs several processes: start it as "
            "`torchrun --nproc-per-node 2 -m recsys train …`, or leave it out."
        )


class RowExchange:
    """The rows of one side's tables that each rank needs for its pairs, and who owns them.

    Made of this rank's indices, int64 [N], and the bounds of the ranks' rows; all ranks make it together.
    """

    def __init__(self, index: Tensor, bounds: Sequence[int], team: Team) -> None:
        self._team = team
        rows, self.places = torch.unique(index, return_inverse=True)
        # Ascending, so the rows of one owner are beside each other.
        cuts = torch.searchsorted(rows, torch.tensor(bounds, device=index.device))
        ones = [1] * team.size
        wanted = cuts.diff()
        self._wanted: list[int] = wanted.tolist()
        self._asked: list[int] = team.exchange(wanted, ones, ones).tolist()
        self.asked = team.exchange(rows, self._wanted, self._asked) - bounds[team.rank]
        """Rows of this rank's own that the ranks want, counted from its first: int64 [M], of rank 0 first."""

    def fetch(self, rows: Tensor) -> Tensor:
        """Rows of this rank's own, [M, F] as `asked` -> the rows that `places` counts, [R, F]."""
        return self._team.exchange(rows, self._asked, self._wanted)

    def return_gradients(self, gradients: Tensor) -> Tensor:
        """Gradients [R, F] of what `fetch` returned -> of what it was given, [M, F]."""
        return self._team.exchange(gradients, self._wanted, self._asked)


class ShardedProduct(nn.Module):
    """A product of tables over the ranks. `shard` is a module of this rank's rows alone."""

    def __init__(self, shard: nn.Module, n_users: int, n_items: int, team: Team) -> None:
        super().__init__()
        self.shard, self._team = shard, team
        self.sizes = (1 + n_users, 1 + n_items)

    def with_shard(self, shard: nn.Module) -> ShardedProduct:
        """The model of another module of this rank's rows."""
        n_users, n_items = self.sizes
        return ShardedProduct(shard, n_users - 1, n_items - 1, self._team)

    def owned(self, side: int) -> slice:
        """Which rows of the users' tables (side 0) or the items' (1) this rank has."""
        return slice(*self._team.bounds(self.sizes[side])[self._team.rank :][:2])

    def tables(self, side: int) -> dict[str, nn.Parameter]:
        """The rows of one side's tables that this rank has, by name."""
        parameters = dict(self.shard.named_parameters())
        return {name: parameters[name] for name in SIDES[side] if name in parameters}

    def exchange(self, side: int, index: Tensor) -> RowExchange:
        """Tell the ranks which rows of a side this rank's pairs use, int64 [N]."""
        return RowExchange(index, self._team.bounds(self.sizes[side]), self._team)

    def score(self, rows: Sequence[Tensor], user_index: Tensor, item_index: Tensor) -> Tensor:
        """Score pairs by fetched rows, the tables of a side side by side: -> float32 [N]."""
        named: dict[str, Tensor] = {}
        for side, fetched in enumerate(rows):
            tables = self.tables(side)
            widths = [table.shape[1] for table in tables.values()]
            named |= zip(tables, torch.split(fetched, widths, dim=1), strict=True)
        scores: Tensor = functional_call(self.shard, named, (user_index, item_index))
        return scores

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """Score this rank's pairs: int64 [N], int64 [N] -> float32 [N]; all ranks call it together."""
        rows, places = [], []
        for side, index in enumerate((user_index, item_index)):
            exchange = self.exchange(side, index)
            tables = self.tables(side).values()
            rows.append(exchange.fetch(torch.cat([table[exchange.asked] for table in tables], dim=1)))
            places.append(exchange.places)
        return self.score(rows, *places)

    def over_ranks(self, state: Mapping[str, Tensor]) -> dict[str, Tensor | ShardedRows]:
        """Tensors of this rank's rows, named TABLE or TABLE.STATE, as those of the whole tables."""
        sides = {name: side for side in range(2) for name in SIDES[side]}
        return {
            name: ShardedRows(tensor, self.sizes[sides[name.partition(".")[0]]], self._team)
            if tensor.ndim
            else tensor
            for name, tensor in state.items()
        }

    @torch.no_grad()
    def average_untrained_rows(self, *trained: Tensor) -> None:
        """As `recsys.models.tables.average_untrained_rows`: bool [1 + n_users] and [1 + n_items]."""
        for side, of_all in enumerate(trained):
            is_trained = of_all[self.owned(side)]
            for table in self.tables(side).values():
                total = torch.zeros(table.shape[1], dtype=torch.float64, device=table.device)
                for rows, chosen in zip(_chunks(table), _chunks(is_trained), strict=True):
                    total += rows[chosen].sum(dim=0, dtype=torch.float64)
                self._team.sum(total)
                table[~is_trained] = (total / of_all.sum()).to(table.dtype)


def new_sharded(part: Part, team: Team) -> ShardedProduct:
    """A new model: this rank's rows of the weights that one process would start with, by torch's seed."""
    shapes = {name: table.shape for name, table in part.without_weights().named_parameters()}
    tables = {}
    for name, (n_rows, width) in shapes.items():
        first, end = team.bounds(n_rows)[team.rank :][:2]
        table = tables[name] = torch.empty(end - first, width)
        # Block by block, the last with the rest: then torch draws the numbers of the whole table.
        starts = [*range(0, max(n_rows - ROWS_AT_ONCE, 0) + 1, ROWS_AT_ONCE), n_rows]
        for start, stop in pairwise(starts):
            drawn = normal_table(stop - start - 1, width).detach()
            low, high = max(first, start), min(end, stop)
            if low < high:
                table[low - first : high - first] = drawn[low - start : high - start]
    return _sharded(part, tables, team)


def read_sharded(part: Part, team: Team) -> tuple[ShardedProduct, dict[str, Tensor]]:
    """The model of a run with this rank's rows, and their optimizer's state.

    Raises:
        CheckpointError: as `Part.model`.
    """
    data = part.data
    owned = {
        name: slice(*team.bounds(1 + n)[team.rank :][:2])
        for names, n in zip(SIDES, (data.n_users, data.n_items), strict=True)
        for name in names
    }
    tables, state = part.rows(owned)
    return _sharded(part, tables, team), state


def _sharded(part: Part, tables: Mapping[str, Tensor], team: Team) -> ShardedProduct:
    n_users, n_items = (len(tables[name]) - 1 for name in ("user_factors", "item_factors"))
    with torch.device("meta"):
        shard = build(part.kind, in_unit(part.config, part.info.rating_unit), n_users, n_items)
    shard.load_state_dict(dict(tables), assign=True)
    return ShardedProduct(shard, part.data.n_users, part.data.n_items, team)


class ShardedLearner:
    """The `Learner` of tables over the ranks."""

    def __init__(self, model: ShardedProduct, setting: Setting, state: Mapping[str, Tensor] | None) -> None:
        self._model, self._setting = model, setting
        missed = MissedSteps(setting.config, setting.n_steps, setting.team.device)
        self._sides = [SparseAdamW(model.tables(side), setting.config, missed) for side in range(2)]
        if state:
            for side in self._sides:
                side.restore(state)
        self._score = compiled(model.score, setting.compilation)
        width = sum(table.shape[1] for side in self._sides for table in side.tables.values())
        self.touched = width * setting.config.batch_size

    def begin(self, step: int, user_index: Tensor, item_index: Tensor) -> tuple[Tensor, Tensor]:
        """Start a step, counted from 0, of this rank's pairs; returns what `forward` calls them."""
        self._step = step
        self._taken: list[tuple[RowExchange, Tensor, dict[str, Tensor]]] = []
        self._fetched: list[Tensor] = []
        for number, (side, index) in enumerate(zip(self._sides, (user_index, item_index), strict=True)):
            exchange = self._model.exchange(number, index)
            rows, places = torch.unique(exchange.asked, return_inverse=True)
            taken = side.take(rows)
            with torch.no_grad():
                fetched = exchange.fetch(torch.cat([*taken.values()], dim=1)[places])
            self._fetched.append(fetched.requires_grad_())
            self._taken.append((exchange, places, taken))
        user_places, item_places = (exchange.places for exchange, _, _ in self._taken)
        return user_places, item_places

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """Score pairs: int64 [N], int64 [N] -> float32 [N]."""
        self._scores = self._score(self._fetched, user_index, item_index)
        return self._scores.detach()

    def finish(self, gradient: Tensor) -> None:
        """Change this rank's rows by the mean of the ranks' gradients; `gradient` is by its own scores."""
        self._scores.backward(gradient)  # type: ignore[no-untyped-call]
        schedule = one_cycle(self._step, self._setting.n_steps, self._setting.config.learning_rate)
        for side, fetched, (exchange, places, taken) in zip(
            self._sides, self._fetched, self._taken, strict=True
        ):
            assert fetched.grad is not None
            gradients = exchange.return_gradients(fetched.grad / self._setting.team.size)
            widths = [rows.shape[1] for rows in taken.values()]
            n_rows = len(next(iter(taken.values())))
            summed = gradients.new_zeros(n_rows, sum(widths)).index_add_(0, places, gradients)
            for rows, gradient in zip(taken.values(), torch.split(summed, widths, dim=1), strict=True):
                rows.grad = gradient.contiguous()
            side.step(*schedule)

    def end_epoch(self) -> None:
        """Bring this rank's rows up to date."""
        for side in self._sides:
            side.catch_up()

    def state(self) -> dict[str, Tensor]:
        """State of this rank's rows, named `TABLE.STATE`."""
        return self._sides[0].state() | self._sides[1].state()


def _chunks(rows: Tensor) -> Iterator[Tensor]:
    return iter(torch.split(rows, ROWS_AT_ONCE))
