"""A bundle without what users have rated: every door says so, and the rest answers as ever."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixture_bundles import FIXTURES, RAW_ID_FIXTURES, edit_manifest

from demos.report.factor_map import item_counts
from serve.bundle.bundle import open_bundle
from serve.errors import BundleError, SeenLeftOutError, UnsupportedError
from serve.runtime.checked_graph import check_all
from serve.runtime.recommender import Recommender

from ..conftest import Run
from ..http.conftest import app_client

TOLD = "exported without what users have rated"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """One of the small bundles, as `recsys export --without-seen` would have made it."""
    path = Path(shutil.copytree(FIXTURES / "dot-bias", tmp_path / "bundle"))
    (path / "seen.parquet").unlink()

    def edit(manifest: dict) -> None:
        manifest["without_seen"] = True
        del manifest["files"]["seen.parquet"]

    edit_manifest(path, edit)
    return path


def test_python(bundle: Path) -> None:
    recommender = Recommender.load(bundle, "cpu")
    check_all(recommender)
    for ask in (
        lambda: recommender.recommend(10),
        lambda: recommender.recommend([10, 20], exclude_item_ids=[[1001], []]),
        lambda: recommender.rank(np.array([1, 2]), exclude_seen=np.array([False, True])),
        lambda: recommender.seen,
    ):
        with pytest.raises(SeenLeftOutError, match=TOLD):
            ask()
    whole = Recommender.load(FIXTURES / "dot-bias", "cpu")
    found, expected = (one.recommend(10, exclude_seen=False) for one in (recommender, whole))
    np.testing.assert_array_equal(found.item_ids, expected.item_ids)
    top = recommender.rank(np.array([1]), exclude_seen=np.array([False]))
    np.testing.assert_array_equal(top.indices[0], expected.item_indices)
    assert recommender.fold_in([1001], [5.0]).count == 10
    assert not item_counts(recommender.bundle).any()


def test_reasons_need_ratings(tmp_path: Path) -> None:
    """Of a user of the bundle, who has none there; a new user brings them."""
    path = Path(shutil.copytree(RAW_ID_FIXTURES / "dot-bias", tmp_path / "bundle"))
    (path / "seen.parquet").unlink()

    def leave_out(manifest: dict) -> None:
        manifest["without_seen"] = True
        del manifest["files"]["seen.parquet"]

    edit_manifest(path, leave_out)
    recommender = Recommender.load(path, "cpu")
    with pytest.raises(UnsupportedError, match="which reasons are made of: give the ratings"):
        recommender.recommend(10, exclude_seen=False, reasons=True)
    with pytest.raises(UnsupportedError, match="which reasons are made of: give the ratings"):
        recommender.explain(10, [1001])
    assert recommender.fold_in([1001], [5.0], reasons=True).reasons


def test_the_command_line(bundle: Path, tmp_path: Path, recsys: Run) -> None:
    for arguments in (["--user-id", "10"], ["--all-users", "--output", tmp_path / "lists"]):
        code, _, err = recsys("recommend", bundle, *arguments)
        assert code == 2
        assert TOLD in err
        assert "--include-seen" in err
    assert not (tmp_path / "lists").exists()
    code, out, _ = recsys("recommend", bundle, "--user-id", "10", "--include-seen", "--json")
    assert code == 0
    assert len(json.loads(out)["items"]) == 10
    code, _, _ = recsys("recommend", bundle, "--all-users", "--include-seen", "--output", tmp_path / "lists")
    assert code == 0
    assert recsys("inspect", bundle)[0] == 0


def test_http(bundle: Path) -> None:
    async def ask() -> None:
        async with app_client(bundle) as client:
            refused = await client.post("/v1/recommend", json={"user_id": 10})
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "unsupported")
            assert TOLD in refused.text
            answered = await client.post("/v1/recommend", json={"user_id": 10, "exclude_seen": False})
            assert len(answered.json()["items"]) == 10

    asyncio.run(ask())


def test_the_manifest_and_the_files_agree(bundle: Path) -> None:
    shutil.copy(FIXTURES / "dot-bias" / "seen.parquet", bundle)
    edit_manifest(bundle)
    with pytest.raises(BundleError, match="says that it was exported without it"):
        open_bundle(bundle)
    (bundle / "seen.parquet").unlink()
    edit_manifest(bundle, lambda manifest: manifest["files"].pop("seen.parquet"))
    edit_manifest(bundle, lambda manifest: manifest.update(without_seen=False))
    with pytest.raises(BundleError, match=r"does not list seen\.parquet"):
        open_bundle(bundle)
