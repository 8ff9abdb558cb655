"""Rules for lists through every door, against a filter of the whole ranking."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from fixture_bundles import BUNDLES, FIXTURES, edit_manifest, price_of

from serve import Recommender, Rules, open_bundle
from serve.bundle.item_rules import ItemRules
from serve.errors import BundleError, RequestError, UnsupportedError

FILTERED = FIXTURES.with_name("raw_id_bundles")
PARTS = FILTERED / "parts"
RULES = [
    Rules(categories=["Comedy", "Drama"]),
    Rules(not_categories=["Comedy", "sci-fi"], min_ratings=4),
    Rules(min_ratings=6, max_ratings=10),
    Rules(min_year=1960, max_year=1979),
    Rules(max_year=1979, categories=["Thriller"], not_categories=["Drama"]),
    Rules(numbers={"price": (4.75, 20)}),
    Rules(numbers={"price": (None, 15.25)}, min_ratings=5),
]


def training_ratings(served: Recommender) -> np.ndarray:
    """int64 [n_items + 1]."""
    return served.bundle.table("item_n_ratings")[0].astype(int)


def obeys(served: Recommender, rules: Rules, index: int, n_ratings: np.ndarray) -> bool:
    """Whether an item obeys rules, read from the catalogue."""
    item = served.items[index]
    genres = {genre.casefold() for genre in item.genres}
    if rules.categories and not genres & {name.casefold() for name in rules.categories}:
        return False
    if genres & {name.casefold() for name in rules.not_categories}:
        return False
    if not (rules.min_ratings or 0) <= n_ratings[index] <= (rules.max_ratings or 1000):
        return False
    if rules.min_year is not None and (item.year is None or item.year < rules.min_year):
        return False
    if rules.max_year is not None and item.year is not None and item.year > rules.max_year:
        return False
    low, high = rules.numbers.get("price", (None, None))
    price = price_of(index)
    if (low is not None and not price >= low) or (high is not None and price > high):
        return False
    return (rules.allow is None or item.item_id in rules.allow) and item.item_id not in rules.deny


@pytest.fixture(params=BUNDLES)
def served(request: pytest.FixtureRequest) -> Recommender:
    return Recommender.load(FILTERED / request.param, "cpu")


@pytest.fixture(scope="module")
def parts() -> Recommender:
    return Recommender.load(PARTS, "cpu")


def test_a_list_is_the_whole_ranking_without_what_breaks_the_rules(served) -> None:
    users = [served.users.one_id(index) for index in (1, 2, 17, 30)]
    n_ratings = training_ratings(served)
    every = served.items.ids.ids(np.arange(1, 51)).tolist()
    listed = [Rules(allow=every[::3], deny=every[:4]), Rules(deny=[*every[10:40], every[0]])]
    whole = served.recommend(users, 50)
    for rules in RULES + listed:
        found = served.recommend(users, 5, rules=rules)
        for one, ranking in zip(found, whole, strict=True):
            indices = ranking.item_indices[: ranking.count].tolist()
            kept = [place for place, index in enumerate(indices) if obeys(served, rules, index, n_ratings)][
                :5
            ]
            assert one.item_indices[: one.count].tolist() == [indices[place] for place in kept]
            np.testing.assert_array_equal(one.scores[: one.count], ranking.scores[kept])
            if ranking.ratings is not None:
                np.testing.assert_array_equal(one.ratings[: one.count], ranking.ratings[kept])


def test_a_new_users_list_likewise(served) -> None:
    if "fold_in" not in served.manifest.graphs:
        with pytest.raises(UnsupportedError, match="no fold_in_filtered graph"):
            served.fold_in([], [], rules=RULES[0])
        return
    rated = served.items.ids.ids(np.array([3, 8, 21])).tolist()
    n_ratings = training_ratings(served)
    deny = served.items.ids.ids(np.arange(30, 40)).tolist()
    whole = served.fold_in(rated, [5, 1, 4], 50)
    indices = whole.item_indices[: whole.count].tolist()
    for rules in [*RULES, Rules(deny=deny)]:
        kept = [index for index in indices if obeys(served, rules, index, n_ratings)][:5]
        found = served.fold_in([rated, []], [[5, 1, 4], []], 5, rules=rules)
        assert found.item_indices[0][: found.count[0]].tolist() == kept


def test_no_rules_are_no_rules() -> None:
    plain = Recommender.load(FIXTURES / "dot", "cpu")  # which has no graphs with rules
    user = plain.users.one_id(1)
    rules = Rules(deny=[], categories=[])
    np.testing.assert_array_equal(plain.recommend(user, rules=rules).item_ids, plain.recommend(user).item_ids)
    with pytest.raises(UnsupportedError, match="--filtered"):
        plain.recommend(user, rules=RULES[0])


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (Rules(categories=["Comdy"]), r"no category 'Comdy'. There are 'Comedy', '.*'$"),
        (Rules(not_categories=[7]), "no category 7"),  # type: ignore[list-item]
        (Rules(categories="Comedy"), "categories must be a list"),
        (Rules(categories=["Drama"], not_categories=["drama"]), "'Drama' is both wanted and unwanted"),
        (Rules(min_ratings=9, max_ratings=3), "min_ratings is 9, more than max_ratings, 3"),
        (Rules(min_year=2000, max_year=1990), "min_year is 2000, more than max_year, 1990"),
        (Rules(min_year=1990.5), "min_year must be an integer"),  # type: ignore[arg-type]
        (Rules(min_ratings=True), "min_ratings must be an integer"),
        (Rules(numbers={"cost": (1, 2)}), "no number 'cost', there are 'price'$"),
        (Rules(numbers={"n_ratings": (1, 2)}), "'n_ratings' has bounds of its own: min_ratings and max_"),
        (Rules(numbers={"price": (2, 1)}), "the least price is 2, more than the largest price, 1"),
        (Rules(numbers={"price": (None, float("nan"))}), "the largest price must be a number, got nan"),
        (Rules(numbers={"price": ("1", None)}), "the least price must be a number, got '1'"),  # type: ignore[dict-item]
        (Rules(numbers={"price": 3}), r"numbers\['price'\] must be a pair of bounds, got 3"),  # type: ignore[dict-item]
        (Rules(numbers=[("price", 3)]), "numbers must map names to pairs"),  # type: ignore[arg-type]
        (Rules(numbers={"price": (10**400, None)}), "no item is left: .* obeys numbers="),
        (Rules(allow=[]), "none of the 0 items in allow"),
        (Rules(allow=[5, 6]), "none of the 2 items in allow"),
        (Rules(min_ratings=10**30), "no item is left: .* obeys min_ratings=1000"),
        (Rules(min_year=1990, categories=["Comedy"], max_ratings=0), "no item is left: .* categories="),
    ],
)
def test_rules_that_are_refused(parts, rules, told) -> None:
    with pytest.raises(RequestError, match=told):
        parts.recommend(10, rules=rules)
    with pytest.raises(RequestError, match=told):
        parts.fold_in([1001], [5], rules=rules)


def test_items_without_categories_or_years_have_no_such_rules() -> None:
    bare = Recommender.load(PARTS, "cpu")
    columns = ItemRules(categories=[], numbers=["n_ratings"])
    manifest = msgspec.structs.replace(bare.manifest, item_rules=columns)
    bare.bundle = dataclasses.replace(bare.bundle, manifest=manifest)
    with pytest.raises(RequestError, match="have no categories"):
        bare.recommend(10, rules=RULES[0])
    with pytest.raises(RequestError, match="have no year"):
        bare.recommend(10, rules=RULES[3])
    with pytest.raises(RequestError, match="no number 'price', nor any other"):
        bare.recommend(10, rules=RULES[5])


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("price", "'price' is not a name and a number, such as price=10"),
        ("=10", "'=10' is not a name and a number"),
        ("price=ten", "'price=ten': 'ten' is not a finite decimal number"),
        ("price=1", "'price' is named twice"),
    ],
)
def test_bounds_that_are_refused(recsys, option, told) -> None:
    given = ["--at-most", "price=1", "--at-most", option] if option == "price=1" else ["--at-most", option]
    code, _, err = recsys("recommend", PARTS, "--user-id", 10, *given)
    assert (code, told in err) == (2, True)


def test_the_command_line(recsys, parts) -> None:
    code, out, _ = recsys(
        "recommend",
        PARTS,
        "--user-id",
        10,
        "--category",
        "comedy",
        "--not-category",
        "Drama",
        "--years",
        "1950-1985",
        "--min-ratings",
        3,
        "--max-ratings",
        30,
        "--at-least",
        "price=1.75",
        "--at-most",
        "price=25",
        "--deny",
        "Movie 1, The",
        "--json",
    )
    assert code == 0
    rules = Rules(
        categories=["Comedy"],
        not_categories=["Drama"],
        min_year=1950,
        max_year=1985,
        min_ratings=3,
        max_ratings=30,
        numbers={"price": (1.75, 25)},
        deny=[1001],
    )
    found = [item["item_id"] for item in msgspec.json.decode(out)["items"]]
    assert found == parts.recommend(10, rules=rules).item_ids.tolist()[: len(found)]
    code, out, _ = recsys(
        "fold-in", PARTS, "--rate", "1001=5", "--allow", "id:1002", "--allow", "1003", "--json"
    )
    assert {item["item_id"] for item in msgspec.json.decode(out)["items"]} == {1002, 1003}


@pytest.mark.parametrize(
    ("years", "low", "high"), [("1990-", 1990, None), ("-1999", None, 1999), ("1972", 1972, 1972)]
)
def test_ranges_of_years(recsys, parts, years, low, high) -> None:
    code, out, _ = recsys("recommend", PARTS, "--user-id", 20, "--years", years, "-k", 50, "--json")
    assert code == 0
    wanted = parts.recommend(20, 50, rules=Rules(min_year=low, max_year=high))
    found = [item["item_id"] for item in msgspec.json.decode(out)["items"]]
    assert found == wanted.item_ids[: wanted.count].tolist()


@pytest.mark.parametrize("years", ["-", "x", "1990-x", "1990-1995-1999", ""])
def test_ranges_of_years_that_are_refused(recsys, years) -> None:
    code, _, err = recsys("recommend", PARTS, "--user-id", 20, "--years", years)
    assert code == 2
    assert "is no range of years" in err


def test_a_batch_job(recsys, parts, tmp_path: Path) -> None:
    code, _, err = recsys(
        "recommend",
        PARTS,
        "--all-users",
        "--output",
        tmp_path / "lists",
        "--category",
        "Drama",
        "--deny",
        1002,
    )
    assert code == 0, err
    table = pq.read_table(tmp_path / "lists").to_pydict()
    wanted = parts.recommend(table["user_id"], rules=Rules(categories=["Drama"], deny=[1002]))
    assert table["item_ids"] == [one.item_ids[: one.count].tolist() for one in wanted]
    code, _, err = recsys(
        "recommend", PARTS, "--all-users", "--output", tmp_path / "none", "--min-ratings", 1000
    )
    assert code == 2
    assert "no item is left" in err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "edit",
    ["none", "categories", "numbers", "order", "twice", "same", "nameless", "renamed", "swapped"],
)
def test_a_manifest_with_other_columns_is_refused(tmp_path: Path, edit: str) -> None:
    copy = Path(shutil.copytree(PARTS, tmp_path / "bundle"))

    def change(manifest) -> None:
        if edit == "none":
            manifest["item_rules"] = None
        elif edit in ("order", "twice"):  # so that a column of the graph would have another one's name
            names = manifest["item_rules"]["categories"]
            manifest["item_rules"]["categories"] = names[::-1] if edit == "order" else names[:1] * len(names)
        elif edit == "swapped":
            manifest["item_rules"]["numbers"][1:] = ["price", "year"]
        elif edit in ("same", "nameless", "renamed"):
            manifest["item_rules"]["numbers"][2] = {"same": "year", "nameless": "", "renamed": "cost"}[edit]
        else:
            manifest["item_rules"][edit].pop()

    edit_manifest(copy, change)
    with pytest.raises(BundleError, match=r"item_rules|widths|item_number\.cost of .* there is none"):
        open_bundle(copy)


def test_categories_that_no_item_has_are_refused(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(PARTS, tmp_path / "bundle"))
    edit_manifest(copy, lambda m: m["item_rules"]["categories"].__setitem__(3, "Drink"))
    with pytest.raises(BundleError, match=r"items\.parquet has no genres, which the manifest's item_rules"):
        Recommender.load(copy, "cpu").recommend(10, rules=Rules(categories=["Drink"]))


@pytest.mark.parametrize("column", ["year", "genres"])
def test_items_without_what_the_rules_compare_are_refused(tmp_path: Path, column: str) -> None:
    copy = Path(shutil.copytree(PARTS, tmp_path / "bundle"))
    pq.write_table(pq.read_table(copy / "items.parquet").drop_columns([column]), copy / "items.parquet")
    edit_manifest(copy)
    with pytest.raises(BundleError, match=f"items.parquet has no {column}, which the manifest's item_rules"):
        Recommender.load(copy, "cpu").recommend(10, rules=Rules(min_ratings=1))
