"""A run folder as what an export is made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from export.errors import GraphError
from export.graphs.fold_in import folding
from export.model.arrays import Arrays
from export.model.dot import DotArrays
from export.model.inputs import ExportInputs, IdTables, Sample, SeenRatings
from export.model.mlp import MlpArrays
from export.write.fold_in_choice import choose_fold_in, made_up_histories, sample_histories
from recsys.data.interactions import Interactions
from recsys.training.checkpoint import Run, load_run
from serve.bundle.manifest import FoldIn

# The size of the sample that is verified: all of a small model.
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
    """bool [n]: ratings that were held out of the training"""

    def inputs(
        self, top_k: int, *, raw_ids: bool, fold_in: FoldIn | Literal["choose"] | None = "choose"
    ) -> ExportInputs:
        """What the graphs are made from; the samples in it are the same each time.

        Args:
            top_k: K of the ranking graphs; at most the number of items.
            raw_ids: whether to make `recommend_by_id.onnx`.
            fold_in: settings of `fold_in.onnx`; "choose": by the held-out ratings, where the model allows.
        """
        data, ratings_range = self.interactions, self.run.info.data.ratings_range
        seen = SeenRatings.of(data.user_index, data.item_index, data.ratings)
        rng = np.random.default_rng(0)
        histories = sample_histories(data.user_index, data.item_index, data.ratings, self.held_out, rng)
        left_out = {}
        if fold_in == "choose":
            fold_in = None
            if self.arrays.can_fold_in:
                try:
                    fold_in = choose_fold_in(folding(self.arrays), histories, ratings_range)
                except GraphError as error:
                    left_out["fold_in"] = str(error)
        rng = np.random.default_rng(1)
        rows = rng.permutation(np.flatnonzero(self.held_out))[:N_PAIRS]
        sample = Sample.of(
            seen,
            users=1 + rng.permutation(data.n_users)[:N_USERS],
            items=1 + rng.permutation(data.n_items)[:N_USERS],
            pairs=(data.user_index[rows], data.item_index[rows]),
            ratings=data.ratings[rows],
            histories=histories or made_up_histories(data.n_items, ratings_range),
        )
        return ExportInputs(
            module=self.module,
            arrays=self.arrays,
            seen=seen,
            sample=sample,
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


def load_run_inputs(path: Path) -> LoadedRun:
    """Load a run folder.

    Raises:
        CheckpointError: it is incomplete or damaged, or a weight is not finite.
    """
    run = load_run(path)
    module = run.model()
    interactions = run.interactions()
    held_out = np.zeros(len(interactions), bool)
    held_out[run.split().valid] = True
    y_range = run.part.config.y_range
    assert y_range != "auto"  # resolved before training
    return LoadedRun(run, module, module_arrays(module, y_range), interactions, held_out)


def module_arrays(module: nn.Module, y_range: tuple[float, float] | None) -> Arrays:
    """The arrays of a module of a run, whose weights are finite; `y_range` as in its config (ratings)."""
    state = {name: tensor.detach().cpu().numpy() for name, tensor in module.state_dict().items()}
    kind = MlpArrays if "layers.0.weight" in state else DotArrays
    return kind.of_state(state, y_range)
