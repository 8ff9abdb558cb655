"""A rank's share of the ratings, read from the run folder, whose indices are the same for all ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.interactions import Interactions
from recsys.data.splits import Split
from recsys.training.checkpoint import RATING_COLUMNS, check_columns, check_ratings
from recsys.training.distributed import Team
from recsys.training.run_info import INTERACTIONS, DataInfo, damaged


def read_share(folder: Path, data: DataInfo, team: Team) -> tuple[Interactions, Split]:
    """Read this rank's share of the training and of the held-out ratings; sizes differ by at most one.

    Only row groups with such ratings are read, one at a time. Users and items have no columns, only their
    numbers.

    Raises:
        CheckpointError: as `Run.interactions`.
    """
    path = folder / INTERACTIONS
    sizes = {False: data.n_ratings - data.n_held_out, True: data.n_held_out}
    bounds = {held_out: team.bounds(n)[team.rank :][:2] for held_out, n in sizes.items()}
    seen = {False: 0, True: 0}
    groups: list[pa.Table] = []
    try:
        file = pq.ParquetFile(path)
        for number in range(file.num_row_groups):
            mask = file.read_row_group(number, ["held_out"])
            check_columns(path, mask, {"held_out": pa.bool_()})
            held_out = mask["held_out"].to_numpy()
            own = np.zeros(len(held_out), bool)
            for side, (first, end) in bounds.items():
                positions = np.flatnonzero(held_out == side)
                own[positions[max(first - seen[side], 0) : max(end - seen[side], 0)]] = True
                seen[side] += len(positions)
            if own.any() or not groups:
                group = file.read_row_group(number, [*RATING_COLUMNS])
                check_columns(path, group, RATING_COLUMNS)
                groups.append(group.filter(own))
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, f"can't be read: {error}") from None
    if seen != sizes:
        raise damaged(path, f"holds {sum(seen.values())} ratings, {seen[True]} of them held out")
    table = pa.concat_tables(groups)
    check_ratings(path, table, data)
    share = Interactions(
        name=data.name,
        sha256=data.sha256,
        licence=data.licence,
        item_key=data.item_key,
        users=pd.DataFrame(index=pd.RangeIndex(data.n_users)),
        items=pd.DataFrame(index=pd.RangeIndex(data.n_items)),
        user_index=table["user_index"].to_numpy(),
        item_index=table["item_index"].to_numpy(),
        ratings=table["rating"].to_numpy(),
        timestamps=None,
    )
    held_out = table["held_out"].to_numpy()
    return share, Split(np.flatnonzero(~held_out), np.flatnonzero(held_out))
