"""What a rank with sharded tables holds: rows, ratings, and its part of a file; without other processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from recsys.errors import CheckpointError
from recsys.models import build
from recsys.training.checkpoint import Run, load_run
from recsys.training.distributed import ROWS_AT_ONCE, Team
from recsys.training.needed_memory import LIBRARIES, needed_bytes
from recsys.training.rating_share import read_share
from recsys.training.run_info import INTERACTIONS
from recsys.training.sharded_tables import new_sharded, read_sharded
from recsys.training.tensor_file import ShardedRows, write_tensors

RANKS = [Team(rank, 3) for rank in range(3)]


@pytest.fixture(scope="module")
def run(train_checkerboard: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(train_checkerboard("dot-bias", tmp_path_factory.mktemp("runs") / "run").path)


@pytest.mark.parametrize("n_users", [2, 9, ROWS_AT_ONCE + 5, 2 * ROWS_AT_ONCE + 7])
def test_ranks_start_with_the_weights_of_one_process(run: Run, n_users: int) -> None:
    part = run.parts[0]
    part = replace(part, data=msgspec.structs.replace(part.data, n_users=n_users, n_items=40))

    def rows(team: Team) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        return new_sharded(part, team).shard.state_dict()

    torch.manual_seed(3)
    whole = build(part.kind, part.config, n_users, 40).state_dict()
    shards = [rows(team) for team in RANKS]
    for name, table in whole.items():
        assert torch.equal(torch.cat([shard[name] for shard in shards]), table)


def test_ranks_read_their_rows_of_a_run(run: Run) -> None:
    part = run.parts[0]
    model = part.trained_model()
    shards = [read_sharded(part, team) for team in RANKS]
    assert len({len(sharded.shard.user_factors) for sharded, _ in shards}) <= 2
    for name, table in model.state_dict().items():
        assert torch.equal(torch.cat([sharded.shard.state_dict()[name] for sharded, _ in shards]), table)
    for name, tensor in part.optimizer_state(model).items():
        states = [state[name] for _, state in shards]
        assert torch.equal(torch.cat(states) if tensor.ndim else states[0], tensor)


@pytest.mark.parametrize("row_group_size", [7, 1 << 20])
def test_ranks_share_the_ratings(run: Run, tmp_path: Path, row_group_size: int) -> None:
    pq.write_table(
        pq.read_table(run.path / INTERACTIONS), tmp_path / INTERACTIONS, row_group_size=row_group_size
    )
    shares = [read_share(tmp_path, run.info.data, team) for team in RANKS]
    data, whole = run.interactions(), run.split()
    for of_whole, sides in (
        (whole.train, [split.train for _, split in shares]),
        (whole.valid, [split.valid for _, split in shares]),
    ):
        assert max(map(len, sides)) - min(map(len, sides)) <= 1
        for column in ("user_index", "item_index", "ratings"):
            parts = [getattr(share, column)[side] for (share, _), side in zip(shares, sides, strict=True)]
            np.testing.assert_array_equal(np.concatenate(parts), getattr(data, column)[of_whole])
    assert [(share.n_users, share.n_items) for share, _ in shares] == [(data.n_users, data.n_items)] * 3


def test_ratings_that_are_not_those_of_the_run_are_refused(run: Run, tmp_path: Path) -> None:
    table = pq.read_table(run.path / INTERACTIONS)
    path = tmp_path / INTERACTIONS
    for wrong, said in (
        (table.slice(1), "ratings, "),
        (table.drop_columns("held_out"), "can't be read|no column held_out"),
        (table.set_column(0, "user_index", [np.full(len(table), 1 << 20, np.int32)]), "user_index outside"),
    ):
        pq.write_table(wrong, path)
        with pytest.raises(CheckpointError, match=said):
            read_share(tmp_path, run.info.data, Team(0, 1))


def test_a_file_in_blocks_has_the_bytes_of_one_at_once(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    tables = {
        "user_factors": torch.randn(ROWS_AT_ONCE + 3, 2, generator=generator),
        "item_biases": torch.randn(5, 1, generator=generator),
    }
    step = {"user_factors.step": torch.tensor(7.0)}
    save_file(tables | step, tmp_path / "at_once")
    rows = {name: ShardedRows(table, len(table), Team()) for name, table in tables.items()}
    write_tensors(tmp_path / "in_blocks", rows | step)
    assert (tmp_path / "in_blocks").read_bytes() == (tmp_path / "at_once").read_bytes()
    assert torch.equal(load_file(tmp_path / "in_blocks")["item_biases"], tables["item_biases"])


def test_each_rank_needs_its_share_of_the_memory(run: Run) -> None:
    part = msgspec.structs.replace(
        run.info.part, training=replace(run.info.part.training, sparse_updates="on")
    )
    data = run.interactions()
    one, three = (needed_bytes(part, data, len(data), ranks) - LIBRARIES for ranks in (1, 3))
    assert three == one // 3
