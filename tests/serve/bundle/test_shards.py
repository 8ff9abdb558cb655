"""Manifests that say of shards what is not so: refused before a graph is opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixture_bundles import RAW_ID_FIXTURES, edit_manifest

from serve.bundle.bundle import open_bundle
from serve.bundle.shards import list_graphs, role, shards_of, whole_table
from serve.errors import BundleError

NAMES = ["recommend_shard_0", "recommend_shard_1", "recommend_shard_2"]
Graphs = dict[str, Any]


def items(**ranges: list[int]) -> Callable[[Graphs], object]:
    def change(graphs: Graphs) -> None:
        for name, items in ranges.items():
            graphs[f"recommend_shard_{name[1:]}"]["items"] = items

    return change


def shorter(graphs: Graphs) -> None:
    shard = graphs["recommend_shard_1"]
    shard["top_k"] = 16
    for output in shard["outputs"]:
        output["shape"][1] = 16


def wider(graphs: Graphs) -> None:
    graphs["merge"]["inputs"][1]["shape"][1] = 51


def swapped(graphs: Graphs) -> None:
    first, last = (graphs[name] for name in NAMES[::2])
    first["file"], last["file"] = last["file"], first["file"]


def renamed(old: str, new: str) -> Callable[[Graphs], object]:
    return lambda graphs: graphs.update({new: graphs.pop(old)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (items(_1=[18, 34]), "recommend_shard_1 are 18 to 33 of 50, and should begin at 17"),
        (items(_1=[16, 34]), "recommend_shard_1 are 16 to 33 of 50, and should begin at 17"),
        (items(_0=[2, 17]), "recommend_shard_0 are 2 to 16 of 50, and should begin at 1"),
        (items(_2=[34, 50]), "recommend_shard_2 has the top_k 17, and merge needs 16"),
        (items(_2=[34, 52]), "the items of recommend_shard_2 are"),
        (items(_0=[34, 51], _2=[1, 17]), "recommend_shard_0 are 34 to 50 of 50, and should begin at 1"),
        (items(_0=[1, 18], _1=[18, 34]), "recommend_shard_0 has the top_k 16, and merge needs 17"),
        (items(_0=[0, 17]), "the items of recommend_shard_0 are"),
        (items(_1=[34, 17]), "the items of recommend_shard_1 are"),
        (shorter, "recommend_shard_1 has the top_k 16, and merge needs 17"),
        (wider, "shard_item_indices of merge is .*51.*, and the shards list 50 items"),
        (swapped, "no table of 17 rows, and the shard has 16 items"),
        (lambda graphs: graphs["merge"].update(items=[1, 34]), "the items of merge are"),
        (lambda graphs: graphs["score"].update(items=[1, 34]), "the items of score are"),
        (lambda graphs: graphs.pop("merge"), "lists no recommend graph"),
        (lambda graphs: graphs.pop("recommend_shard_2"), "the shards end at item 33 of 50"),
        (
            lambda graphs: graphs.pop("recommend_shard_1"),
            "it lists 1 shards and a merge",
        ),
        (renamed("recommend_shard_2", "recommend_shard_02"), "recommend_shard_02 after recommend_shard_1"),
        (renamed("merge", "recommend"), "the inputs of recommend are"),
    ],
)
def test_shards_that_do_not_make_the_catalogue(
    tmp_path: Path, change: Callable[[Graphs], object], message: str
) -> None:
    bundle = Path(shutil.copytree(RAW_ID_FIXTURES / "dot-bias-shards", tmp_path / "bundle"))
    edit_manifest(bundle, lambda manifest: change(manifest["graphs"]))
    with pytest.raises(BundleError, match=message):
        open_bundle(bundle)


def test_shards_beside_the_whole_catalogue(tmp_path: Path) -> None:
    whole = RAW_ID_FIXTURES / "dot-bias"
    entry = json.loads((whole / "manifest.json").read_bytes())["graphs"]["recommend"]
    bundle = Path(shutil.copytree(RAW_ID_FIXTURES / "dot-bias-shards", tmp_path / "bundle"))
    shutil.copyfile(whole / "recommend.onnx", bundle / "recommend.onnx")
    edit_manifest(bundle, lambda manifest: manifest["graphs"].update(recommend=entry))
    with pytest.raises(BundleError, match="it lists 3 shards and a merge beside recommend"):
        open_bundle(bundle)


def test_names_of_graphs_and_tables() -> None:
    whole, in_shards = (
        open_bundle(RAW_ID_FIXTURES / name).manifest.graphs for name in ("dot-bias", "dot-bias-shards")
    )
    assert list_graphs(whole) == ["recommend"]
    assert list_graphs(in_shards) == [*NAMES, "merge"]
    assert shards_of(whole) == []
    assert {role(name) for name in NAMES} == {"recommend_shard"}
    assert role("recommend_shard_x") == "recommend_shard_x"
    assert whole_table("item_factors_shard_12") == whole_table("item_factors") == "item_factors"
    assert whole_table("item_factors_shard_12_units") == "item_factors_shard_12_units"
