"""What is exported: a run's module, its arrays and its ratings, and the graphs that they make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from torch import nn

from export.errors import GraphError
from export.graphs.fold_in import fold_in_graph
from export.graphs.recommend import recommend_graph
from export.graphs.recommend_by_id import IdTables, recommend_by_id_graph
from export.graphs.score import score_graph
from export.graphs.similar_items import similar_items_graph
from export.model.arrays import Arrays, DotArrays, dot_arrays, mlp_arrays
from export.model.fold_in_choice import History, made_up_histories, sample_histories
from export.model.reference import Int64
from export.verify.parity import N_PAIRS, N_USERS, Sample
from recsys.data.interactions import Interactions
from recsys.training.checkpoint import Run, load_run
from serve.bundle.manifest import FoldIn


@dataclass(frozen=True, eq=False)
class Trained:
    """A run, loaded."""

    run: Run
    module: nn.Module
    arrays: Arrays
    interactions: Interactions
    held_out: npt.NDArray[np.bool_]
    """bool [n]: which ratings the training has not seen"""

    @property
    def score_span(self) -> float:
        """Width of the rating scale (ratings): what tolerances are shares of."""
        low, high = self.arrays.y_range or self.run.info.data.ratings_range
        return high - low

    def seen_by(self, user: int) -> tuple[Int64, npt.NDArray[np.float32]]:
        """Items that a user has rated, int64 [H] in order of index, and the ratings, float32 [H]."""
        rows = np.flatnonzero(self.interactions.user_index == user)
        rows = rows[np.argsort(self.interactions.item_index[rows], kind="stable")]
        return self.interactions.item_index[rows].astype(np.int64), self.interactions.ratings[rows]

    def id_tables(self) -> IdTables:
        """What stands for each row outside."""
        items = self.interactions.items
        titles = None
        if "title" in items and items["title"].notna().any():
            titles = [str(title) for title in items["title"].fillna("")]
        return IdTables(self.interactions.users["user_id"].to_numpy(), items["item_id"].to_numpy(), titles)

    def histories(self) -> list[History]:
        """Users to fold in, always the same ones."""
        data = self.interactions
        rng = np.random.default_rng(0)
        return sample_histories(data.user_index, data.item_index, data.ratings, self.held_out, rng)

    def sample(self) -> Sample:
        """What the graphs are asked when they are verified, always the same."""
        data = self.interactions
        rng = np.random.default_rng(1)
        rows = rng.permutation(np.flatnonzero(self.held_out))[:N_PAIRS]
        # Every combination with "unknown" is answered too.
        user_index = np.concatenate([[0, 0, 1], data.user_index[rows]]).astype(np.int64)
        item_index = np.concatenate([[0, 1, 0], data.item_index[rows]]).astype(np.int64)
        ratings = np.concatenate([np.full(3, np.nan), data.ratings[rows]]).astype(np.float32)
        n_users, n_items = data.n_users, data.n_items
        users = np.append(0, rng.permutation(np.arange(1, n_users + 1))[:N_USERS])
        items = np.append(0, rng.permutation(np.arange(1, n_items + 1))[:N_USERS])
        seen = [np.array([], np.int64) if user == 0 else self.seen_by(int(user))[0] for user in users]
        exclude = np.zeros((len(users), max(1, *(len(row) for row in seen))), np.int64)
        for row, indices in zip(exclude, seen, strict=True):
            row[: len(indices)] = indices
        histories = self.histories() or made_up_histories(n_items, self.run.info.data.ratings_range)
        return Sample((user_index, item_index), ratings, users, exclude, items, histories)


def load_trained(path: Path) -> Trained:
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
    return Trained(run, module, module_arrays(module, y_range), interactions, held_out)


def module_arrays(module: nn.Module, y_range: tuple[float, float] | None) -> Arrays:
    """The arrays of a `DotProduct` or `Mlp` module; `y_range` as in its config (ratings).

    Raises:
        GraphError: a table holds NaN or infinity; TopK would be undefined.
    """
    state = {name: tensor.detach().cpu().numpy() for name, tensor in module.state_dict().items()}
    for name, array in state.items():
        if not np.isfinite(array).all():
            raise GraphError(f"{name} holds NaN or infinite values: train again with a lower learning rate")
    return mlp_arrays(state, y_range) if "layers.0.weight" in state else dot_arrays(state, y_range)


def build_graphs(
    module: nn.Module, arrays: Arrays, top_k: int, fold_in: FoldIn | None, ids: IdTables | None = None
) -> dict[str, ir.Model]:
    """Every graph of a bundle by name; `fold_in` only for the dot models, `recommend_by_id` where ids are."""
    graphs = {
        "score": score_graph(module),
        "recommend": recommend_graph(arrays, top_k),
        "similar_items": similar_items_graph(arrays, top_k),
    }
    if fold_in is not None and isinstance(arrays, DotArrays):
        graphs["fold_in"] = fold_in_graph(arrays, top_k, fold_in.regularization, fold_in.steps)
    if ids is not None:
        graphs["recommend_by_id"] = recommend_by_id_graph(arrays, ids, top_k)
    return graphs
