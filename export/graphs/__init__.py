"""The graphs of a bundle: one file each, and one line each here."""

from export.graphs import (
    explain,
    fold_in,
    fold_in_filtered,
    recommend,
    recommend_by_id,
    recommend_fast,
    recommend_filtered,
    score,
    similar_items,
)
from export.graphs.spec import GraphSpec

GRAPHS: tuple[GraphSpec, ...] = (
    score.SPEC,
    recommend.SPEC,
    similar_items.SPEC,
    fold_in.SPEC,
    recommend_by_id.SPEC,
    recommend_fast.SPEC,
    recommend_filtered.SPEC,
    fold_in_filtered.SPEC,
    explain.SPEC,
)
