"""Variety through every door, against a choice of one candidate after the other in plain Python."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from fixture_bundles import BUNDLES, FIXTURES

from serve import Recommender, Rules, Variety
from serve.errors import BundleError, RequestError
from serve.runtime.batching import Top
from serve.runtime.item_facts import ItemCategories, average_scores, list_scores, log_popularity
from serve.runtime.variety import NO_SPREAD, rerank, rerank_users

PARTS = FIXTURES / "parts"
FILTERED = FIXTURES.with_name("raw_id_bundles")
VARIETIES = [
    Variety(diversity=0.3),
    Variety(diversity=1.0),
    Variety(surprise=0.5),
    Variety(surprise=-0.7),
    Variety(max_per_category=1),
    Variety(diversity=0.5, surprise=0.4, max_per_category=2),
]
NO_LIMIT = Variety(max_per_category=1000)
K, N = 50, 8


@pytest.fixture(scope="module", params=BUNDLES)
def served(request: pytest.FixtureRequest) -> Recommender:
    return Recommender.load(FIXTURES / request.param, "cpu", threads=1)


@pytest.fixture(scope="module")
def parts() -> Recommender:
    return Recommender.load(PARTS, "cpu", threads=1)


def standard(values: list[float]) -> np.ndarray:
    array = np.array(values, np.float64)
    deviation = array.std()
    if deviation <= NO_SPREAD * np.abs(array).max():
        return np.zeros(len(array))
    return (array - array.mean()) / deviation


def chosen_one_by_one(served: Recommender, user: int, variety: Variety, n: int) -> list[int]:
    """The indices of a list, by the definition in `serve.runtime.variety`."""
    plain = served.rank(np.array([user]), K)
    items = [index for index in plain.indices[0].tolist() if index]
    scores = dict(zip(items, plain.scores[0].tolist(), strict=False))
    relevance = {item: -place for place, item in enumerate(items)}
    if variety.diversity or variety.surprise:
        relevance = dict(zip(items, standard([scores[item] for item in items]), strict=True))
    if variety.surprise:
        known = [standard(log_popularity(served)[items].tolist())]
        if (average := average_scores(served)) is not None:
            known.append(standard(average[items].tolist()))
        away = np.mean(known, axis=0)
        mixed = [
            (1 - abs(variety.surprise)) * relevance[item] - variety.surprise * away[place]
            for place, item in enumerate(items)
        ]
        relevance = dict(zip(items, standard(mixed), strict=True))
    unit = served.bundle.table("item_directions").astype(np.float64)
    cosines = unit @ unit.T
    pairs = [cosines[a, b] for a in items for b in items if a < b]
    spread, found = np.std(pairs), list[int]()
    while len(found) < n and len(found) < len(items):
        left = [item for item in items if item not in found]
        if variety.max_per_category is not None:
            counts = [genre for item in found for genre in served.items[item].genres]

            def excess(item: int, counts: list[str] = counts) -> int:
                most = max((counts.count(genre) for genre in served.items[item].genres), default=-1)
                return max(0, most + 1 - (variety.max_per_category or 0))

            least = min(map(excess, left))
            left = [item for item in left if excess(item) == least]

        def value(item: int) -> float:
            if not found:
                return relevance[item]
            closest = max(cosines[item, other] for other in found)
            return (1 - variety.diversity) * relevance[item] - variety.diversity * closest / spread

        found.append(max(sorted(left), key=value))
    return found


@pytest.mark.parametrize("variety", VARIETIES)
def test_equals_the_choice_one_by_one(served: Recommender, variety: Variety) -> None:
    users = np.array([0, 2, 30])
    found = served.rank(users, N, variety=variety)
    plain = served.rank(users, K)
    for row, user in enumerate(users.tolist()):
        assert found.indices[row].tolist() == chosen_one_by_one(served, user, variety, N)
        places = [plain.indices[row].tolist().index(item) for item in found.indices[row].tolist()]
        # Scores and ratings are those of the plain list.
        np.testing.assert_array_equal(found.scores[row], plain.scores[row][places])
        if plain.ratings is not None:
            np.testing.assert_array_equal(found.ratings[row], plain.ratings[row][places])


@pytest.mark.parametrize("variety", [None, Variety(), Variety(diversity=0, surprise=0.0), NO_LIMIT])
def test_weights_of_0_give_the_plain_list(served: Recommender, variety: Variety | None) -> None:
    plain, found = served.rank(np.arange(31), N), served.rank(np.arange(31), N, variety=variety)
    np.testing.assert_array_equal(found.indices, plain.indices)
    np.testing.assert_array_equal(found.scores, plain.scores)


def test_a_list_is_a_list_of_another_user_s_batch(served: Recommender) -> None:
    """Alone and in any batch; and twice the same."""
    variety = VARIETIES[-1]
    users = np.arange(1, 31)
    together = served.rank(users, N, variety=variety)
    np.testing.assert_array_equal(together.indices, served.rank(users, N, variety=variety).indices)
    for user in (1, 9, 30):
        alone = served.rank(np.array([user]), N, variety=variety)
        assert alone.indices[0].tolist() == together.indices[user - 1].tolist()


def test_more_diversity_is_less_alike(parts: Recommender) -> None:
    unit = parts.bundle.table("item_directions")
    alike = []
    for weight in (0.0, 0.3, 0.6, 0.9):
        rows = unit[parts.rank(np.arange(1, 31), N, variety=Variety(diversity=weight)).indices]
        alike.append(float(np.mean(rows @ rows.transpose(0, 2, 1))))
    assert sorted(alike, reverse=True) == alike
    assert alike[0] > alike[-1] + 0.1


def test_more_surprise_is_less_known(parts: Recommender) -> None:
    known = []
    for weight in (-1.0, -0.5, 0.0, 0.5, 1.0):
        listed = parts.rank(np.arange(1, 31), N, variety=Variety(surprise=weight)).indices
        known.append(float(log_popularity(parts)[listed].mean()))
    assert sorted(known, reverse=True) == known


def test_at_most_so_many_of_a_category(parts: Recommender) -> None:
    """Five kinds of cells, each ten items: four with genres, one with "no genres"."""
    for ranking in parts.recommend([10, 20, 30], 4, variety=Variety(max_per_category=1)):
        genres = [genre for item in ranking.item_indices.tolist() for genre in parts.items[item].genres]
        assert len(genres) == len(set(genres))


@pytest.mark.parametrize("variety", VARIETIES)
def test_a_list_is_never_shorter(parts: Recommender, variety: Variety) -> None:
    """All candidates are listed where as many are asked for, and the tail is empty where there are none."""
    users = np.arange(1, 31)
    plain, found = parts.rank(users, K), parts.rank(users, K, variety=variety)
    np.testing.assert_array_equal(np.sort(found.indices, axis=1), np.sort(plain.indices, axis=1))
    np.testing.assert_array_equal(found.indices == 0, plain.indices == 0)
    assert (plain.indices == 0).any()  # rated items are left out
    assert (found.scores[found.indices == 0] == np.float32(-1e30)).all()


def test_equals_are_taken_by_index(parts: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that are alike in everything: the lower index first, whatever the order of the candidates."""
    items = np.array([[9, 4, 7, 2, 0]])
    top = Top(items, np.array([[1, 1, 1, 1, -1e30]], np.float32), None, "recommend")
    unit = np.ones((51, 1), np.float32)
    monkeypatch.setattr(type(parts.bundle), "table", lambda self, name: unit)
    alike = Recommender(parts.bundle, "cpu", threads=1)
    assert rerank(top, 5, Variety(diversity=0.5), alike).indices.tolist() == [[2, 4, 7, 9, 0]]


def test_a_single_candidate_is_the_list(parts: Recommender) -> None:
    top = Top(np.array([[9]]), np.ones((1, 1), np.float32), None, "recommend")
    assert rerank(top, 1, VARIETIES[-1], parts).indices.tolist() == [[9]]


def test_users_come_in_parts(parts: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = parts.rank(np.arange(1, 31), N, variety=VARIETIES[-1])
    monkeypatch.setattr("serve.runtime.variety.USERS_AT_ONCE", 7)
    monkeypatch.setattr("serve.runtime.variety.FLOATS_AT_ONCE", 1)
    for found in (
        parts.rank(np.arange(1, 31), N, variety=VARIETIES[-1]),
        rerank_users(lambda rows: parts.rank(np.arange(1, 31)[rows], K), 30, N, VARIETIES[-1], parts),
    ):
        for name in ("indices", "scores", "ratings"):
            np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_no_users_have_no_lists(parts: Recommender) -> None:
    assert parts.recommend([], 5, variety=VARIETIES[-1]).item_ids.shape == (0, 5)


def test_with_rules_and_exclusions() -> None:
    served = Recommender.load(FILTERED / "parts", "cpu", threads=1)
    rules = Rules(categories=["Comedy", "Drama"])
    found = served.recommend(10, 5, rules=rules, variety=VARIETIES[-1], exclude_item_ids=[1002, 1003])
    indices = found.item_indices[: found.count].tolist()
    assert indices
    assert not {2, 3} & set(indices)
    assert all({"Comedy", "Drama"} & set(served.items[index].genres) for index in indices)


def test_a_new_user(parts: Recommender) -> None:
    plain = parts.fold_in([1001, 1005], [5, 2], 40)
    found = parts.fold_in([1001, 1005], [5, 2], 6, variety=Variety(diversity=0.6))
    assert found.item_ids.tolist() != plain.item_ids[:6].tolist()
    assert set(found.item_ids.tolist()) <= set(plain.item_ids.tolist())
    assert found.item_ids[0] == plain.item_ids[0]


@pytest.mark.parametrize(
    ("variety", "told"),
    [
        (Variety(diversity=1.1), "diversity must be a number from 0 to 1, got 1.1"),
        (Variety(diversity=-0.1), "diversity must be"),
        (Variety(diversity=float("nan")), "diversity must be"),
        (Variety(diversity="x"), "diversity must be"),  # type: ignore[arg-type]
        (Variety(diversity=True), "diversity must be"),
        (Variety(surprise=-1.5), "surprise must be a number from -1 to 1, got -1.5"),
        (Variety(max_per_category=0), "max_per_category must be an integer from 1 on, got 0"),
        (Variety(max_per_category=2.5), "max_per_category must be"),  # type: ignore[arg-type]
        (Variety(max_per_category=True), "max_per_category must be"),
    ],
)
def test_what_is_refused(parts: Recommender, variety: Variety, told: str) -> None:
    with pytest.raises(RequestError, match=told):
        parts.recommend(10, variety=variety)
    with pytest.raises(RequestError, match=told):
        parts.fold_in([1001], [5], variety=variety)


def test_items_without_categories_have_no_limit_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Recommender.load(PARTS, "cpu", threads=1)
    monkeypatch.setattr(type(bare.items), "genres", None)
    with pytest.raises(RequestError, match="have no categories"):
        bare.recommend(10, variety=Variety(max_per_category=2))


def test_a_bundle_without_directions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Recommender.load(PARTS, "cpu", threads=1)
    monkeypatch.setattr(type(bare.bundle), "table", lambda self, name: np.zeros((3, 2), np.float32))
    with pytest.raises(BundleError, match=r"'item_directions' is float32 \(3, 2\), not floats of 51 rows"):
        bare.recommend(10, variety=Variety(diversity=0.5))


def test_scores_of_the_lists(served: Recommender) -> None:
    """`list_scores` and the lists agree, so the average user's scores are those of their list."""
    for user in (0, 5):
        top = served.rank(np.array([user]), 20)
        found = list_scores(served, user, top.indices[0])
        assert found is not None
        kept = top.indices[0] > 0
        span = served.manifest.model.list_span
        np.testing.assert_allclose(found[kept], top.scores[0][kept], atol=1e-5 * span)


def test_popularity_is_that_of_the_training(parts: Recommender) -> None:
    served = Recommender.load(FILTERED / "parts", "cpu", threads=1)
    n_ratings = served.bundle.table("item_n_ratings")[0]
    expected = np.where(n_ratings >= 3, np.log1p(n_ratings), 0)
    np.testing.assert_allclose(log_popularity(served), expected, atol=1e-4)


def test_categories_of_cells() -> None:
    found = ItemCategories.of(["A|B", None, "B", "", "C|A|B"])
    assert found.n_categories == 3
    assert found.padded(np.array([[1, 2]])).tolist() == [[[1, 2], [0, 0]]]
    assert found.padded(np.array([[5, 0]])).tolist() == [[[3, 1, 2], [0, 0, 0]]]
    assert ItemCategories.of([None, ""]).padded(np.array([[1, 2]])).tolist() == [[[0], [0]]]


def test_the_command_line(recsys, parts: Recommender) -> None:
    flags = ("--diversity", 0.5, "--surprise", -0.25, "--max-per-category", 2)
    variety = Variety(diversity=0.5, surprise=-0.25, max_per_category=2)
    code, out, _ = recsys("recommend", PARTS, "--user-id", 10, *flags, "--json")
    assert code == 0
    found = [item["item_id"] for item in msgspec.json.decode(out)["items"]]
    assert found == parts.recommend(10, variety=variety).item_ids.tolist()
    code, out, _ = recsys("fold-in", PARTS, "--rate", "1001=5", *flags, "--json")
    assert code == 0
    found = [item["item_id"] for item in msgspec.json.decode(out)["items"]]
    assert found == parts.fold_in([1001], [5], variety=variety).item_ids.tolist()


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--diversity", 2),
        ("--diversity", "nan"),
        ("--surprise", -1.5),
        ("--surprise", "x"),
        ("--max-per-category", 0),
    ],
)
def test_flags_that_are_refused(recsys, flag: str, value: object) -> None:
    code, _, err = recsys("recommend", PARTS, "--user-id", 10, flag, value)
    assert code == 2
    assert flag.strip("-").replace("-", "_") in err.replace("-", "_")


def test_a_batch_job(recsys, parts: Recommender, tmp_path: Path) -> None:
    flags = ("--diversity", 0.5, "--max-per-category", 2)
    code, _, err = recsys("recommend", PARTS, "--all-users", "--output", tmp_path / "lists", *flags)
    assert code == 0, err
    table = pq.read_table(tmp_path / "lists").to_pydict()
    wanted = parts.recommend(table["user_id"], variety=Variety(diversity=0.5, max_per_category=2))
    assert table["item_ids"] == [one.item_ids[: one.count].tolist() for one in wanted]
    code, _, err = recsys("recommend", PARTS, "--all-users", "--output", tmp_path / "no", "--surprise", "nan")
    assert code == 2
    assert not (tmp_path / "no").exists()
