"""The graphs of a bundle: one file each, and one line each here."""

from export.graphs import (
    explain,
    fold_in,
    fold_in_filtered,
    merge,
    recommend,
    recommend_by_id,
    recommend_fast,
    recommend_filtered,
    score,
    shard,
    similar_items,
    variety,
)
from export.graphs.spec import GraphSpec
from export.model.inputs import ExportInputs

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
    variety.SPEC,
    *shard.SPECS,
    merge.SPEC,
)


def graphs_of(inputs: ExportInputs) -> list[GraphSpec]:
    """The graphs that a bundle of these inputs has."""
    return [spec for spec in GRAPHS if spec.applies(inputs)]
