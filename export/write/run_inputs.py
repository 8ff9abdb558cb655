"""What is exported from a run: its module, its arrays and its ratings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from export.errors import GraphError
from export.graphs.fold_in import folding
from export.model.arrays import Arrays
from export.model.from_module import module_arrays
from export.model.id_tables import IdTables
from export.model.inputs import ExportInputs, History, Sample, SeenRatings
from export.write.fold_in_choice import choose_fold_in, made_up_histories, sample_histories
from recsys.data.interactions import Interactions
from recsys.training.checkpoint import Run, load_run
from serve.bundle.manifest import FoldIn
from serve.runtime.validation import padded

# A sample that covers every user of a small model and many of a large one.
N_PAIRS = 20_000
N_USERS = 64


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A run folder, loaded."""

    run: Run
    module: nn.Module
    arrays: Arrays
    interactions: Interactions
    held_out: npt.NDArray[np.bool_]
    """bool [n]: which ratings the training has not seen"""

    def inputs(self, top_k: int, *, raw_ids: bool) -> ExportInputs:
        """What the graphs are made from, the ridge of fold-in chosen: where that fails, it says why.

        Args:
            top_k: K of the ranking graphs; at most the number of items.
            raw_ids: whether there is a graph between ids.
        """
        histories, ratings_range = self._histories(), self.run.info.data.ratings_range
        fold_in, left_out = None, {}
        if self.arrays.can_fold_in:
            try:
                fold_in = choose_fold_in(folding(self.arrays), histories, ratings_range)
            except GraphError as error:
                left_out["fold_in"] = str(error)
        return self._inputs(top_k, raw_ids, fold_in, histories, left_out)

    def inputs_with(self, top_k: int, fold_in: FoldIn | None, *, raw_ids: bool) -> ExportInputs:
        """What the graphs were made from, with a ridge that was chosen before."""
        return self._inputs(top_k, raw_ids, fold_in, self._histories(), {})

    def _inputs(
        self,
        top_k: int,
        raw_ids: bool,
        fold_in: FoldIn | None,
        histories: list[History],
        left_out: dict[str, str],
    ) -> ExportInputs:
        data = self.interactions
        ratings_range = self.run.info.data.ratings_range
        seen = SeenRatings.of(data.user_index, data.item_index, data.ratings)
        return ExportInputs(
            module=self.module,
            arrays=self.arrays,
            seen=seen,
            sample=self._sample(seen, histories or made_up_histories(data.n_items, ratings_range)),
            top_k=min(top_k, data.n_items),
            scores=self.run.info.part.objective,
            score_scale=self.arrays.y_range or ratings_range,
            ids=self._id_tables() if raw_ids else None,
            fold_in=fold_in,
            left_out=left_out,
        )

    def _id_tables(self) -> IdTables:
        items = self.interactions.items
        titles = None
        if "title" in items and items["title"].notna().any():
            titles = [str(title) for title in items["title"].fillna("")]
        return IdTables(self.interactions.users["user_id"].to_numpy(), items["item_id"].to_numpy(), titles)

    def _histories(self) -> list[History]:
        """Users to fold in, always the same ones."""
        data = self.interactions
        rng = np.random.default_rng(0)
        return sample_histories(data.user_index, data.item_index, data.ratings, self.held_out, rng)

    def _sample(self, seen: SeenRatings, histories: list[History]) -> Sample:
        """What the graphs are asked when they are verified, always the same."""
        data = self.interactions
        rng = np.random.default_rng(1)
        rows = rng.permutation(np.flatnonzero(self.held_out))[:N_PAIRS]
        users = np.append(0, rng.permutation(np.arange(1, data.n_users + 1))[:N_USERS])
        items = np.append(0, rng.permutation(np.arange(1, data.n_items + 1))[:N_USERS])
        return Sample(
            # Every combination with "unknown" is answered too.
            pairs=(
                np.concatenate([[0, 0, 1], data.user_index[rows]]).astype(np.int64),
                np.concatenate([[0, 1, 0], data.item_index[rows]]).astype(np.int64),
            ),
            ratings=np.concatenate([np.full(3, np.nan), data.ratings[rows]]).astype(np.float32),
            users=users,
            exclude=padded([seen.of_user(int(user))[0] for user in users], np.int64),
            items=items,
            histories=histories,
        )


def load_run_inputs(path: Path) -> LoadedRun:
    """Load a run folder.

    Raises:
        CheckpointError: it is incomplete or damaged.
        GraphError: its weights are not finite.
    """
    run = load_run(path)
    module = run.model()
    interactions = run.interactions()
    held_out = np.zeros(len(interactions), bool)
    held_out[run.split().valid] = True
    y_range = run.config.y_range
    assert y_range != "auto"  # resolved before training
    return LoadedRun(run, module, module_arrays(module, y_range), interactions, held_out)
