"""`import recsys`: from a table of ratings to answers in three calls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny_runs

import recsys
from recsys.errors import ConfigError
from recsys.training.checkpoint import load_run


@pytest.fixture(scope="module")
def ratings() -> pd.DataFrame:
    data = tiny_runs.interactions()
    return pd.DataFrame(
        {
            "user_id": data.users["user_id"].to_numpy()[data.user_index - 1],
            "item_id": data.items["item_id"].to_numpy()[data.item_index - 1],
            "rating": data.ratings,
        }
    )


@pytest.fixture(scope="module")
def run(ratings: pd.DataFrame) -> recsys.FittedRun:
    items = tiny_runs.interactions().items
    return recsys.fit(ratings, items=items, model="ease", factors=4, device="cpu", progress=False)


def test_from_a_table_to_answers(run: recsys.FittedRun, ratings: pd.DataFrame, tmp_path: Path) -> None:
    bundle = run.export(tmp_path / "bundle", top_k=20)
    assert bundle.manifest.parity.passed
    for path in (bundle, tmp_path / "bundle", str(tmp_path / "bundle")):
        top = recsys.load(path, "cpu").recommend(10, top_k=5)
    frame = top.to_pandas()
    assert frame["item_id"].tolist() == top.item_ids.tolist()
    assert frame["title"].str.startswith("Movie").all()
    rated = ratings[ratings["user_id"] == 10]["item_id"]
    assert not set(rated) & set(frame["item_id"])
    some = pd.Series([10, 20], index=[5, 9])
    assert recsys.load(bundle, "cpu").recommend(some).item_ids.shape == (2, 10)
    liked = pd.DataFrame({"item": [1001, 1006], "rating": [5.0, 4.0]}, index=[5, 9])
    folded = recsys.load(bundle, "cpu").fold_in(liked["item"], liked["rating"])
    assert list(folded) == list(recsys.load(bundle, "cpu").fold_in([1001, 1006], [5.0, 4.0]))


def test_a_run_is_measured(run: recsys.FittedRun) -> None:
    found = run.evaluate(k=5)
    assert found["k"] == 5
    assert 0 <= found["ndcg_at_k"] <= 1


def test_a_run_without_a_folder_is_temporary(ratings: pd.DataFrame, tmp_path: Path) -> None:
    asked = {"model": "ease", "factors": 4, "device": "cpu", "progress": False, "seed": 3}
    kept = recsys.fit(ratings, output=tmp_path / "run", split="stratified", **asked)
    info = load_run(kept.path).info
    assert (info.split.kind, info.seed, info.parts[0].config["n_factors"]) == ("stratified", 3, 4)
    gone = recsys.fit(ratings, **asked)
    assert gone.path.is_dir()
    path = gone.path
    del gone
    assert not path.exists()
    assert kept.path.is_dir()


def test_arguments_that_contradict_each_other_are_refused(ratings: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="leave one of them out"):
        recsys.fit(ratings, model="ease", preset="default")
    with pytest.raises(ConfigError, match="items go with a table"):
        recsys.fit("ml-latest-small", items=ratings)
    with pytest.raises(ConfigError, match="has no --epoch"):
        recsys.fit(ratings, model="ease", epoch=3)


def test_importing_recsys_is_light() -> None:
    code = (
        "import sys, recsys; assert 'fit' in dir(recsys) or recsys.__all__;"
        "heavy = {'torch', 'numpy', 'pandas', 'pyarrow', 'onnx', 'onnxruntime', 'click'} & set(sys.modules);"
        "assert not heavy, heavy;"
        "recsys.load; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_package_says_that_it_is_typed() -> None:
    root = Path(__file__).parents[2]
    for name in ("recsys", "export", "serve", "demos"):
        assert (root / name / "py.typed").exists(), name
