"""An export without what users have rated: no file has a rating of theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_runs

from export.add_items.add_items import add_items
from export.forget.forget import forget
from export.verify.evaluate_bundle import check_data
from export.verify.verify import verify
from export.write.bundle import export_run
from recsys.errors import DataError
from serve.errors import UnsupportedError
from serve.runtime.checked_graph import check_all
from serve.runtime.recommender import Recommender


@pytest.fixture(scope="module")
def bundle(tiny_run: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("without") / "bundle"
    export_run(tiny_run("ranking"), output, without_seen=True)
    return output


def test_no_file_has_ratings(bundle: Path) -> None:
    """No `seen.parquet`, and no conformance case with the items of the user whom it is for."""
    recommender = Recommender.load(bundle, "cpu")
    check_all(recommender)
    assert "seen.parquet" not in {path.name for path in bundle.iterdir()}
    data, rated = tiny_runs.interactions(), {}
    for user in range(1, tiny_runs.N_USERS + 1):
        rated[user] = set(data.item_index[data.user_index == user].tolist())
    cases = json.loads((bundle / "conformance.json").read_bytes())["graphs"]
    for graph, name in (("recommend", "exclude_item_indices"), ("fold_in", "item_indices")):
        lists = cases[graph][0]["inputs"][name]
        for row in np.array(lists["data"]).reshape(lists["shape"]):
            items = set(row.tolist()) - {0}
            assert len(items) < 2 or not any(items <= of_user for of_user in rated.values())


def test_what_else_works(bundle: Path, tiny_run: Callable[[str], Path]) -> None:
    """It is measured by the checksum of the data alone; items are not added."""
    recommender, data = Recommender.load(bundle, "cpu"), tiny_runs.interactions()
    check_data(recommender, data)
    with pytest.raises(DataError):
        check_data(recommender, data.__class__(**{**vars(data), "sha256": "1" * 64}))
    with pytest.raises(UnsupportedError, match="without what users have rated"):
        add_items(bundle, data, bundle.with_name("more"))
    assert not bundle.with_name("more").exists()


@pytest.mark.slow
def test_it_is_verified_and_forgets(bundle: Path, tiny_run: Callable[[str], Path]) -> None:
    assert verify(bundle, tiny_run("ranking")).passed
    made = forget(bundle, [10], bundle.with_name("forgotten"))
    assert (made.without_seen, made.n_forgotten) == (True, 1)
    assert made.data.n_ratings == 371
    assert "profiles.json" in made.files
