"""A bundle in shards through every door, against the same model in one piece."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from fixture_bundles import FIXTURES, RAW_ID_FIXTURES, edit_manifest

from demos.gradio_app.showcase import Showcase
from serve import Recommender, Variety
from serve.errors import BundleError, RequestError, UnsupportedError
from serve.http.app import create_app
from serve.http.model import CurrentModel, load_model
from serve.http.settings import ServiceSettings
from serve.runtime.batching import Top

PAIRS = ["dot-bias", "parts-int8"]
USERS = np.arange(31)


def opened(name: str) -> Recommender:
    return Recommender.load(RAW_ID_FIXTURES / name, "cpu")


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> tuple[Recommender, Recommender]:
    """A bundle in one piece, and in shards."""
    return opened(request.param), opened(f"{request.param}-shards")


def check_equal(found: Top, whole: Top) -> None:
    assert found.graph == "merge"
    np.testing.assert_array_equal(found.indices, whole.indices)
    np.testing.assert_allclose(found.scores, whole.scores, rtol=0, atol=1e-5)
    assert (found.ratings is None) == (whole.ratings is None)
    if found.ratings is not None and whole.ratings is not None:
        np.testing.assert_allclose(found.ratings, whole.ratings, rtol=0, atol=1e-5)


def test_the_lists_of_all_users(pair: tuple[Recommender, Recommender]) -> None:
    """K is all 50 items: more than a shard has. Items are excluded in all shards."""
    whole, shards = pair
    rng = np.random.default_rng(0)
    more = [rng.integers(0, 51, n % 20) for n in USERS]
    for top_k in (1, 17, 50):
        for options in ({}, {"exclude_seen": False}, {"exclude_item_indices": more}):
            check_equal(shards.rank(USERS, top_k, **options), whole.rank(USERS, top_k, **options))
    one = np.array([3])
    check_equal(shards.rank(one, 10), whole.rank(one, 10))
    assert shards.check() > len(shards.manifest.graphs)
    assert shards.largest_k("recommend") == 50
    with pytest.raises(RequestError, match="top_k must lie in 1 to 50"):
        shards.rank(USERS, 51)


def test_what_else_a_bundle_answers(pair: tuple[Recommender, Recommender]) -> None:
    whole, shards = pair
    for ask in (
        lambda served: served.similar_items(1005, 5).item_ids,
        lambda served: served.fold_in({1001: 5.0, 1040: 1.0}, None, 5).item_ids,
        lambda served: served.recommend(20, 5, variety=Variety(diversity=0.5)).item_ids,
        lambda served: served.score(20, [1001, 1030]).scores,
    ):
        np.testing.assert_array_equal(ask(shards), ask(whole))
    showcase = Showcase(shards)
    listed = [row.item.item_index for row in showcase.recommend("20").rows]
    assert listed == [row.item.item_index for row in Showcase(whole).recommend("20").rows]


@pytest.mark.parametrize("name", PAIRS)
def test_the_command_and_a_batch_job(recsys: Any, tmp_path: Path, name: str) -> None:
    found = []
    for bundle in (RAW_ID_FIXTURES / name, RAW_ID_FIXTURES / f"{name}-shards"):
        code, out, _ = recsys("recommend", bundle, "--user-id", 30, "-k", 12, "--json")
        assert code == 0
        document = msgspec.json.decode(out)
        lists = tmp_path / bundle.name
        assert recsys("recommend", bundle, "--all-users", "--output", lists, "-k", 50)[0] == 0
        items = [item["item_id"] for item in document["items"]]
        found.append((document["graph"], items, pq.read_table(lists)["item_ids"].to_pylist()))
    whole, shards = found
    assert (whole[0], shards[0]) == ("recommend", "merge")
    assert whole[1:] == shards[1:]
    assert len(whole[1]) == 12
    assert len(whole[2]) == 30


def test_http(pair: tuple[Recommender, Recommender]) -> None:
    async def ask(bundle: Path) -> Any:
        current = CurrentModel(load_model(bundle, "cpu", 1))
        transport = httpx.ASGITransport(create_app(ServiceSettings(bundle=bundle), current))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            lengths = (await client.get("/v1/model")).json()["largest_top_k"]
            assert lengths["recommend"] == 50
            assert not [name for name in lengths if "shard" in name or name == "merge"]
            return (await client.post("/v1/recommend", json={"user_id": 20, "top_k": 20})).json()

    whole, shards = (asyncio.run(ask(served.bundle.path)) for served in pair)
    assert (whole["graph"], shards["graph"]) == ("recommend", "merge")
    ids = [[item["item_id"] for item in answer["items"]] for answer in (whole, shards)]
    assert len(ids[0]) == 20
    assert ids[0] == ids[1]


def test_shards_that_are_elsewhere(pair: tuple[Recommender, Recommender]) -> None:
    """Whatever ranks a shard's items: here, the bundle opened once for each."""
    whole, shards = pair
    path = shards.bundle.path
    apart = [Recommender.load(path, "cpu").graph_ranker(f"recommend_shard_{n}") for n in range(3)]
    check_equal(shards.with_shards(apart).rank(USERS, 50), whole.rank(USERS, 50))
    with pytest.raises(RequestError, match="2 shards, and the bundle has 3"):
        shards.with_shards(apart[:2])
    with pytest.raises(UnsupportedError, match="not in shards"):
        whole.with_shards(apart)


def test_a_shard_that_lists_items_of_another_is_found_out(pair: tuple[Recommender, Recommender]) -> None:
    _, shards = pair
    first, second = (shards.graph_ranker(f"recommend_shard_{n}") for n in (0, 1))
    assert second.items == (17, 34)
    with pytest.raises(BundleError, match=r"recommend_shard_1 does not answer .* items beyond 18 to 33"):
        second._replace(items=(18, 34)).rank(USERS, np.zeros((31, 1), np.int64))
    twice = shards.with_shards([first, second, second])
    with pytest.raises(BundleError, match=r"merge does not answer .* an item twice"):
        twice.rank(USERS, 50)


def test_shards_in_another_order_fail_their_cases(tmp_path: Path) -> None:
    """Ranges of one length that are exchanged: only the answers tell."""
    bundle = Path(shutil.copytree(RAW_ID_FIXTURES / "dot-bias-shards", tmp_path / "bundle"))

    def swap(manifest: dict[str, Any]) -> None:
        second, third = (manifest["graphs"][f"recommend_shard_{n}"] for n in (1, 2))
        second["file"], third["file"] = third["file"], second["file"]
        for table in manifest["tables"]:
            table["graphs"] = [name for name in table["graphs"] if "_shard_" not in name]

    edit_manifest(bundle, swap)
    with pytest.raises(BundleError, match="recommend_shard_1 does not answer as its conformance cases say"):
        Recommender.load(bundle, "cpu").rank(USERS, 10)


def test_a_bundle_in_one_piece_has_no_merge() -> None:
    with pytest.raises(UnsupportedError, match="has no merge graph"):
        Recommender.load(FIXTURES / "dot", "cpu").largest_k("merge")
