"""docs/bring-your-own.md as it stands: its snippets run, and give what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsys

OWN = ("implicit.", "surprise.", "torch.")
PAGE = Path(__file__).parents[3] / "docs" / "bring-your-own.md"


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names of all snippets, which run in order in an empty folder."""
    found: dict[str, Any] = {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        for snippet in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
            exec(snippet, found)
        for name in ("bundle", "als", "svd", "towers"):
            found[f"{name} served"] = recsys.load(found[name], "cpu")
    return found


def own_check(bundle: Any) -> Any:
    """The comparison with the model's own package."""
    (check,) = (one for one in bundle.manifest.parity.checks if one.provider.startswith(OWN))
    return check


def test_tables_answer_as_their_product(names: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    rng.integers(1, 41, 600), rng.integers(1, 31, 600)
    users, items = rng.normal(size=(40, 8)), rng.normal(size=(30, 8))
    logits = users @ items.T + rng.normal(size=40)[:, None] + rng.normal(size=30)
    wanted = 0.5 + 5 / (1 + np.exp(-logits))
    served = names["bundle served"]
    np.testing.assert_allclose(served.score([3, 40], [5, 30]).scores, wanted[[2, 39], [4, 29]], rtol=1e-5)
    ratings = names["ratings"]
    rated = set(ratings[ratings["user_id"] == 3]["item_id"])
    unseen = [item for item in np.argsort(-wanted[2]) + 1 if item not in rated]
    assert served.recommend(3, top_k=5).item_ids.tolist() == unseen[:5]
    assert served.recommend(3).ratings.max() <= 5, "the scale of `seen`"
    assert served.items.label(1) == "Heat (1995)"
    served.check()


def test_implicit_answers_alike(names: dict[str, Any]) -> None:
    model, user_items, served = names["model"], names["user_items"], names["als served"]
    for user in range(40):
        ids, scores = model.recommend(user, user_items[user], N=5)
        top = served.recommend(user, top_k=5)
        n = len(top)
        np.testing.assert_allclose(top.scores[:n], scores[:n], atol=1e-5)
        np.testing.assert_array_equal(top.item_ids[:n], ids[:n])
    assert own_check(names["als"]).list_agreement == 1
    assert len(served.fold_in([3, 4], [5.0, 4.0], top_k=5)) == 5
    served.check()


def test_surprise_answers_alike(names: dict[str, Any]) -> None:
    served, data = names["svd served"], names["data"]
    check = own_check(names["svd"])
    assert (check.provider, check.list_agreement, check.n) == ("surprise.SVD", 1.0, 16)
    assert served.manifest.data.ratings_range == (1, 5)
    assert served.manifest.data.n_ratings == data.n_ratings == len(names["ratings"])
    assert served.resolve(3) == data.to_inner_uid(3) + 1
    served.check()


def test_towers_answer_alike(names: dict[str, Any]) -> None:
    check = own_check(names["towers"])
    assert (check.provider, check.list_agreement) == ("torch.TwoTowers", 1.0)
    served = names["towers served"]
    served.check()
    assert served.recommend(0).item_ids.min() >= 0, "ids are the numbers of the rows"
    assert served.similar_items(0, top_k=3).scores[0] > 0, "no count of ratings shrinks the cosines"
    assert "`seen` was not given" in names["towers"].manifest.left_out["fold_in"]
