"""A run folder as what an export is made from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from torch import nn

from export.errors import GraphError
from export.graphs.fold_in import ridge_arrays
from export.model.arrays import Arrays, Float32
from export.model.dot import DotArrays
from export.model.inputs import ExportInputs, FoldInHistory, IdTables, Sample, SeenRatings
from export.model.item_columns import ItemColumns, categories_and_membership
from export.model.mlp import MlpArrays
from export.model.row_solvers import solver_of
from export.model.side_by_side import PartColumns, SideBySide
from export.model.similar_items import directions, similar_rows, support
from export.write.explain_choice import with_explain
from export.write.fold_in_choice import (
    choose_fold_in,
    choose_linear_map,
    made_up_histories,
    sample_histories,
)
from export.write.list_fold_in_choice import choose_list_fold_in
from export.write.list_ridge_choice import choose_list_ridges, with_list_ridges
from export.write.shrinkage_choice import choose_shrinkage
from recsys.data.features import numeric_features
from recsys.data.interactions import Interactions
from recsys.data.splits import choosing_users
from recsys.models.modules import DotProduct
from recsys.models.side_by_side import part_factors, score_spread
from recsys.training.checkpoint import Run, load_run
from recsys.training.settings import check_rating_weight
from serve.bundle.explain import Explain
from serve.bundle.manifest import FoldIn, ListFoldIn, SimilarItems

# The size of the sample that is verified: all of a small model.
N_PAIRS = 20_000
N_USERS = 64
# Scores that are compared for each graph: of a large catalogue, for fewer users. Tables are compared whole.
MAX_SCORES = 1 << 24
MIN_USERS = 8

NO_MAP = (
    "an mlp has no closed form for new users, and on held-out ratings no approximation predicts better than "
    "the average user"
)


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A run folder, loaded."""

    run: Run
    module: nn.Module
    arrays: Arrays
    ranking_module: nn.Module | None
    """None: the scores order the lists"""
    ranking: SideBySide | None
    """The same model; None for an MLP, too"""
    interactions: Interactions
    held_out: npt.NDArray[np.bool_]
    """bool [n]: ratings that were held out of the training"""

    def inputs(
        self,
        top_k: int,
        *,
        raw_ids: bool,
        fast: bool = False,
        n_shards: int = 0,
        filtered: bool = False,
        explain: bool | Explain = False,
        variety: bool = False,
        fold_in: tuple[FoldIn | None, ListFoldIn | None] | Literal["choose"] = "choose",
        similar: SimilarItems | None = None,
    ) -> ExportInputs:
        """What the graphs are made from; the samples in it are the same each time.

        Args:
            top_k: K of the ranking graphs; at most the number of items.
            raw_ids: whether to make `recommend_by_id.onnx`.
            fast: whether to make `recommend_fast.onnx`.
            n_shards: shards to cut the catalogue into; 0: none.
            filtered: whether to make the graphs with rules.
            explain: whether to make `explain.onnx`; or its settings.
            variety: whether to make `variety.onnx`.
            fold_in: settings of `fold_in.onnx`, of ratings and of lists; "choose": by the held-out ratings,
                where the model allows.
            similar: how similar items are ranked; None: chosen likewise.
        """
        data, ratings_range = self.interactions, self.run.info.data.ratings_range
        seen = SeenRatings.of(data.user_index, data.item_index, data.ratings)
        histories = self._histories()
        scores = self.run.info.part.objective
        # Where nothing is held out, ratings of the training choose settings, but measure nothing.
        measured = bool(self.held_out.any())
        left_out = {}
        of_ratings, of_lists = (None, None) if fold_in == "choose" else fold_in
        ranking, ridges = self.ranking, of_lists.ridges if of_lists else {}
        if ranking is not None:
            if fold_in == "choose":
                ridges = choose_list_ridges(ranking, histories)
                if not measured:
                    ridges = {
                        kind: msgspec.structs.replace(ridge, held_out_ndcg=None, average_ndcg=None)
                        for kind, ridge in ridges.items()
                    }
            ranking = with_list_ridges(ranking, ridges)
        arrays = self.arrays
        if isinstance(arrays, MlpArrays):
            rows = np.flatnonzero(~self.held_out)
            train = data.user_index[rows], data.item_index[rows], data.ratings[rows]
            if of_ratings is not None:
                arrays = arrays.with_linear_map(*train, of_ratings)
            elif fold_in == "choose" and scores == "ratings":
                judges = histories if measured else []
                arrays, of_ratings = choose_linear_map(arrays, train, judges) or (arrays, None)
                if of_ratings is None:
                    left_out["fold_in"] = NO_MAP
        elif fold_in == "choose" and scores == "ratings":
            try:
                of_ratings = choose_fold_in(ridge_arrays(arrays), histories, ratings_range)
                if not measured:
                    of_ratings = msgspec.structs.replace(of_ratings, held_out_rmse=None, n_held_out_users=0)
            except GraphError as error:
                left_out["fold_in"] = str(error)
        rng = np.random.default_rng(1)
        rows = rng.permutation(np.flatnonzero(self.held_out if measured else ~self.held_out))[:N_PAIRS]
        n_lists = max(MIN_USERS, MAX_SCORES // data.n_items)
        n_asked = min(N_USERS, n_lists)
        sample = Sample.of(
            seen,
            users=1 + rng.permutation(data.n_users)[:n_asked],
            items=1 + rng.permutation(data.n_items)[:n_asked],
            pairs=(data.user_index[rows], data.item_index[rows]),
            ratings=data.ratings[rows] if measured else None,
            histories=(histories or made_up_histories(data.n_items, ratings_range))[:n_lists],
        )
        if similar is None:
            unit = directions(similar_rows(self.arrays if ranking is None else ranking))
            similar = choose_shrinkage(unit, data.user_index, data.item_index, self.held_out)
            del unit  # as large as a table
        n_item_ratings = np.bincount(data.item_index[~self.held_out], minlength=data.n_items + 1)
        inputs = ExportInputs(
            module=self.module,
            arrays=arrays,
            seen=seen,
            sample=sample,
            top_k=min(top_k, data.n_items),
            scores=scores,
            similar=similar,
            item_support=support(n_item_ratings, similar.shrinkage),
            score_scale=(self.arrays.y_range or ratings_range) if scores == "ratings" else None,
            ids=self._id_tables() if raw_ids else None,
            fast=fast,
            n_shards=n_shards,
            columns=self._columns(n_item_ratings) if filtered else None,
            categories=self._categories() if variety else None,
            ranking_module=self.ranking_module,
            ranking=ranking,
            fold_in=of_ratings,
            list_fold_in=of_lists,
        )
        if fold_in == "choose" and ranking is not None and ranking.can_fold_in:
            try:
                chosen = choose_list_fold_in(inputs, histories, ridges)
                if not measured:
                    chosen = msgspec.structs.replace(chosen, held_out_ndcg={}, n_held_out_users=0)
                inputs = inputs.with_list_fold_in(chosen)
            except GraphError as error:
                left_out["fold_in"] = str(error)
        elif fold_in == "choose" and ranking is not None:
            left_out["fold_in"] = "no part has a fold-in that ranks better than the average user does"
        inputs = replace(inputs, left_out=left_out)
        if isinstance(explain, Explain):
            return replace(inputs, explain=explain)
        return with_explain(inputs) if explain else inputs

    def _histories(self) -> list[FoldInHistory]:
        """Users to choose the settings of fold-in by, and to verify it with."""
        data, users = self.interactions, self.interactions.user_index
        rows = np.arange(len(data))
        if self.run.info.split.kind == "by-user":  # the other users held out whole measure the fold-in
            rows = np.flatnonzero(np.isin(users, choosing_users(users[self.held_out])))
        return sample_histories(
            users[rows],
            data.item_index[rows],
            data.ratings[rows],
            self.held_out[rows],
            np.random.default_rng(0),
        )

    def described(self) -> dict[str, list[Any]]:
        """`titles`, `genres` and `years` of the items, if the data has them; None where an item has none."""
        items, names = self.interactions.items, {"titles": "title", "genres": "genres", "years": "year"}
        # A missing value is None in a list of objects.
        return {
            name: items[column].astype(object).where(items[column].notna(), None).tolist()
            for name, column in names.items()
            if column in items
        }

    def _columns(self, n_item_ratings: npt.NDArray[np.int64]) -> ItemColumns:
        known = self.described()
        numbers = numeric_features(self.interactions.items)
        return ItemColumns.of(n_item_ratings, known.get("genres"), known.get("years"), numbers)

    def _categories(self) -> npt.NDArray[np.uint8]:
        return categories_and_membership(self.interactions.n_items, self.described().get("genres"))[1]

    def _id_tables(self) -> IdTables:
        items = self.interactions.items
        titles = None
        if "title" in items and items["title"].notna().any():
            titles = [str(title) for title in items["title"].fillna("")]
        return IdTables(self.interactions.users["user_id"].to_numpy(), items["item_id"].to_numpy(), titles)


def load_run_inputs(path: Path, rating_weight: float | None = None) -> LoadedRun:
    """Load a run folder; `rating_weight` takes the place of the run's, None leaves it.

    Raises:
        CheckpointError: it is incomplete or damaged, or a weight is not finite.
        ConfigError: the run does not have both a part that predicts ratings and one that ranks, or the weight
            is not a number from 0 on.
    """
    run = load_run(path)
    if rating_weight is not None:
        check_rating_weight(rating_weight, run.info.parts)
        run = Run(run.path, msgspec.structs.replace(run.info, rating_weight=rating_weight))
    module = run.model()
    interactions = run.interactions()
    held_out = np.zeros(len(interactions), bool)
    held_out[run.split().valid] = True
    y_range = getattr(run.part.config, "y_range", None)
    assert y_range != "auto"  # resolved before training
    arrays = module_arrays(module, y_range if run.info.part.objective == "ratings" else None)
    ranking_module = run.ranking_model() if run.ranking_parts else None
    n_item_ratings = np.bincount(interactions.item_index[~held_out], minlength=interactions.n_items + 1)
    ranking = None if ranking_module is None else _side_by_side(run, ranking_module, n_item_ratings)
    return LoadedRun(run, module, arrays, ranking_module, ranking, interactions, held_out)


def _side_by_side(run: Run, module: nn.Module, n_item_ratings: npt.NDArray[np.int64]) -> SideBySide | None:
    """The ranking parts of a run as arrays; None: an MLP."""
    if not isinstance(module, DotProduct):
        return None
    dot = module_arrays(module, None)
    assert isinstance(dot, DotArrays)
    models = [part.model() for part, _ in run.ranking_parts]
    factors = part_factors(models, [weight for _, weight in run.ranking_parts])
    parts = [
        PartColumns(
            part.info.kind,
            factor,
            model.get_parameter("item_factors").shape[1],
            solver_of(_state(model)) if part.info.objective == "ranking" else None,
            part.info.objective == "ratings",
        )
        for (part, _), model, factor in zip(run.ranking_parts, models, factors, strict=True)
    ]
    return SideBySide.of(dot, parts, n_item_ratings, score_spread(module))


def module_arrays(module: nn.Module, y_range: tuple[float, float] | None) -> Arrays:
    """The arrays of a module of a run, whose weights are finite; `y_range` as in its config (ratings)."""
    state = _state(module)
    kind = MlpArrays if "layers.0.weight" in state else DotArrays
    return kind.of_state(state, y_range)


def _state(module: nn.Module) -> dict[str, Float32]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in module.state_dict().items()}
