"""Adding items: they are placed where their ratings say, and nothing else changes by a bit."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import planted_tastes
import pytest
import tiny_runs
from edit_bundles import edit_table
from made_up import interactions
from planted_tastes import N_TASTES, taste_of

from export.add_items.add_items import add_items
from export.errors import AdditionError, ParityError
from export.verify.evaluate_bundle import check_data
from export.verify.runners import onnxruntime_runner
from export.verify.verify import verify
from export.write.bundle import export_run
from recsys.cli import main
from recsys.data.interactions import Interactions
from recsys.errors import DataError
from serve.bundle.bundle import open_bundle
from serve.bundle.item_rules import UNKNOWN_NUMBER
from serve.errors import UnsupportedError
from serve.runtime.profiles import Profiles
from serve.runtime.recommender import Recommender

N_USERS, N_ITEMS = tiny_runs.N_USERS, tiny_runs.N_ITEMS


def ratings_of(
    rows: list[tuple[int | str, int | str, float]], titles: dict[int | str, str] | None = None
) -> Interactions:
    """Ratings (user_id, item_id, rating) as they are read from a file."""
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating"])
    users, user_index = np.unique(frame["user_id"], return_inverse=True)
    items, item_index = np.unique(frame["item_id"], return_inverse=True)
    catalogue = pd.DataFrame({"item_id": pd.Series(items).infer_objects()})
    if titles is not None:
        catalogue["title"] = pd.Series([titles.get(item) for item in items.tolist()], dtype="str")
    return interactions(
        user_index + 1,
        item_index + 1,
        frame["rating"],
        users=pd.Series(users).infer_objects(),
        items=catalogue,
        name="new",
        sha256="1" * 64,
    )


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    export_run(planted_tastes.make_run(folder / "run"), folder / "bundle")
    return folder / "bundle"


# Users are 10, 20, …, 300. Each new item is loved by the first six users of one taste, loathed by the others.
NEW = {9001 + taste: taste for taste in range(N_TASTES)}
ROWS = [
    (10 * user, item_id, 5.0 if taste_of(user) == taste else 0.5)
    for item_id, taste in NEW.items()
    for user in range(1, 19)
]


@pytest.fixture(scope="module")
def added(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("added") / "bundle"
    rows = [*ROWS, (10, 1001, 3.0), (777, 9001, 5.0), (777, 9009, 5.0)]
    add_items(base, ratings_of(rows, {9001: "<b>New</b> & shiny"}), output)
    return output


def test_new_items_go_to_those_who_like_such_items(added: Path) -> None:
    """Users who have not rated them find the one of their taste in the list, the other two far below."""
    recommender = Recommender.load(added, "cpu")
    for user in range(19, N_USERS + 1):
        found = recommender.recommend(10 * user, 50, exclude_seen=False)
        score = dict(zip(found.item_ids.tolist(), found.scores.tolist(), strict=True))
        (own,) = [item_id for item_id, taste in NEW.items() if taste == taste_of(user)]
        others = [item_id for item_id in NEW if item_id != own]
        assert own in score
        assert all(score.get(other, -1.0) < score[own] - 2.0 for other in others)
    for item_id, taste in NEW.items():  # and its neighbours are the items of its taste
        neighbours = recommender.similar_items(item_id, 10).item_indices
        assert {int(taste_of(index)) for index in neighbours if index <= N_ITEMS} == {taste}


def test_every_other_score_is_the_same_bit_for_bit(base: Path, added: Path) -> None:
    """All pairs, row 0 included; and all lists, once the new items are left out of them."""
    before, after = Recommender.load(base, "cpu"), Recommender.load(added, "cpu")
    users, items = (axis.ravel() for axis in np.indices((N_USERS + 1, N_ITEMS + 1)))
    np.testing.assert_array_equal(before.score_indices(users, items), after.score_indices(users, items))
    everyone = np.arange(N_USERS + 1)
    new = np.tile(np.arange(N_ITEMS + 1, N_ITEMS + 4), (len(everyone), 1))
    for exclude_seen in (False, True):
        top = before.rank(everyone, N_ITEMS, exclude_seen=exclude_seen)
        top_after = after.rank(everyone, N_ITEMS, exclude_seen=exclude_seen, exclude_item_indices=list(new))
        np.testing.assert_array_equal(top.indices, top_after.indices)
        np.testing.assert_array_equal(top.scores, top_after.scores)
    feeds = {"item_indices": np.array([[3, 7, 11]]), "ratings": np.array([[5.0, 2.0, 4.0]], np.float32)}
    rows, rows_after = (recommender.run_graph("fold_in", feeds) for recommender in (before, after))
    for name in ("user_factors", "user_biases"):
        np.testing.assert_array_equal(rows[name], rows_after[name])


def test_ids_titles_and_profiles_are_kept(base: Path, added: Path) -> None:
    before, after = Recommender.load(base, "cpu"), Recommender.load(added, "cpu")
    assert [after.items[i] for i in range(1, N_ITEMS + 1)] == [before.items[i] for i in range(1, N_ITEMS + 1)]
    assert [after.items[i].item_id for i in range(N_ITEMS + 1, N_ITEMS + 4)] == list(NEW)
    assert after.items.label(N_ITEMS + 1) == "<b>New</b> & shiny"
    assert after.items[N_ITEMS + 2].title is None
    assert hashes(base)["users.parquet"] == hashes(added)["users.parquet"]
    assert Profiles.of(after).profiles == Profiles.of(before).profiles


def test_ratings_of_new_items_count_as_seen(base: Path, added: Path) -> None:
    before, after = Recommender.load(base, "cpu"), Recommender.load(added, "cpu")
    old, new = before.seen.history(1), after.seen.history(1)
    np.testing.assert_array_equal(new.item_indices, [*old.item_indices, 51, 52, 53])
    np.testing.assert_array_equal(new.ratings, [*old.ratings, 0.5, 5.0, 0.5])
    assert new.timestamps is not None
    latest = max(before.seen.history(user).timestamps.max() for user in range(1, 31))  # type: ignore[union-attr]
    assert set(new.timestamps[-3:].tolist()) == {latest}
    assert not set(NEW) & set(after.recommend(10, 50).item_ids.tolist())
    assert len(after.seen) == len(before.seen) + len(ROWS)


def test_the_manifest_says_so(base: Path, added: Path) -> None:
    before, after = open_bundle(base), open_bundle(added).manifest
    (addition,) = after.additions
    assert addition.base_version == before.version
    assert addition.item_ids == list(NEW)
    assert addition.n_item_ratings == [18, 18, 18]
    assert (addition.n_unknown_users, addition.n_items_left_out, addition.n_known_items) == (2, 1, 1)
    assert (addition.data, addition.data_sha256) == ("new", "1" * 64)
    assert addition.left_out_rmse is not None
    assert (after.model.n_items, after.model.n_users) == (N_ITEMS + 3, N_USERS)
    assert after.parity.passed
    assert Recommender.load(added, "cpu").check() > 4
    assert after.parity.checks[1].n > 20_000
    for name in ("metrics", "training", "data"):
        assert getattr(after, name) == getattr(before.manifest, name)


@pytest.mark.slow
def test_more_can_be_added_to_what_was_added_to_with_the_same_bytes(
    base: Path, added: Path, tmp_path: Path
) -> None:
    more = ratings_of([(10 * user, 9000, 4.0) for user in range(1, 31)])
    for name in ("one", "two"):
        add_items(added, more, tmp_path / name, regularization=3.0)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    bundle = open_bundle(tmp_path / "one")
    assert [addition.item_ids for addition in bundle.manifest.additions] == [list(NEW), [9000]]
    assert bundle.manifest.additions[1].base_version == open_bundle(added).version
    assert bundle.manifest.additions[1].regularization == 3.0
    # After those before, whatever its id.
    assert Recommender(bundle, "cpu").items[N_ITEMS + 4].item_id == 9000


@pytest.mark.slow
def test_string_ids_raw_ids_and_shared_tables(tiny_run: Callable[[str], Path], tmp_path: Path) -> None:
    """Numbers of a file are text where the bundle's ids are text; what the base has, the new one has."""
    every = {"raw_ids": True, "filtered": True, "explain": True, "variety": True}
    export_run(tiny_run("dot-bias-string-ids"), tmp_path / "base", tables_file="always", **every)
    rows = [(f"user-{10 * user:03d}", "7", 4.0) for user in range(1, 9)] + [("5", "7", 1.0)]
    add_items(tmp_path / "base", ratings_of(rows), tmp_path / "new")
    recommender = Recommender.load(tmp_path / "new", "cpu")
    assert (tmp_path / "new" / "tables.bin").exists()
    assert recommender.items[N_ITEMS + 1].item_id == "7"
    assert recommender.manifest.additions[0].n_unknown_users == 1
    assert recommender.score("user-010", "7").known is True
    old, new = (open_bundle(tmp_path / name).table("item_number.price")[0] for name in ("base", "new"))
    np.testing.assert_array_equal(new[:-1], old)
    assert new[-1] == np.float32(UNKNOWN_NUMBER)  # the file of new items has no price
    others = np.array([[f"item-{1000 + index}" for index in range(1, N_ITEMS + 1)]], object)
    feeds = {"user_id": np.array(["user-300"], object), "exclude_item_ids": others}
    found = onnxruntime_runner(tmp_path / "new", "cpu")("recommend_by_id", feeds)
    assert found["top_item_ids"][0, :2].tolist() == ["7", ""]
    assert found["known"].all()
    reasons = recommender.fold_in(["7"], [4.0], reasons=True)
    assert reasons.reasons is not None
    np.testing.assert_allclose(reasons.reasons.scores, reasons.scores, atol=1e-4)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(10, 1001, 5.0), (20, 1002, 3.0)], "all 2 items that it rates are in the bundle already"),
        (
            [(11, 9001, 5.0), (12, 9001, 3.0), (10, 1001, 3.0)],
            "none of the 2 ratings of new items is by a user of the bundle, such as 10",
        ),
        ([("a", 9001, 5.0), ("b", 9001, 5.0)], "text, such as 'b'; the bundle's are integers, such as 10"),
        (
            [(10 * user, 9001, 7.0) for user in range(1, 9)],
            r"(?s)8 ratings lie off the bundle's scale, 0.5 to 5:\n  user 10, item 9001: 7\n.*… and 3 more\n",
        ),
    ],
)
def test_what_can_not_be_added_is_refused(base: Path, tmp_path: Path, rows: Any, message: str) -> None:
    before = hashes(base)
    with pytest.raises(AdditionError, match=message):
        add_items(base, ratings_of(rows), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    assert hashes(base) == before


def test_an_mlp_is_refused(tiny_bundle: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="of the kind mlp, where a new item has no closed form"):
        add_items(tiny_bundle("mlp"), ratings_of([(10, 9001, 5.0)]), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_change_of_an_old_score_stops_it(base: Path, tmp_path: Path) -> None:
    """As when another release of torch has written the base."""
    other = Path(shutil.copytree(base, tmp_path / "base"))
    edit_table(other, "score", "item_biases", lambda table: np.nextafter(table, np.float32(1), out=table))
    with pytest.raises(ParityError, match="scores of old items would change"):
        add_items(other, ratings_of(list(ROWS)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_needs_the_training_data_says_that_items_were_added(added: Path) -> None:
    with pytest.raises(ParityError, match="items were added"):
        verify(added, added.parent / "run")
    with pytest.raises(DataError, match="other item_ids"):
        check_data(Recommender.load(added, "cpu"), tiny_runs.interactions())


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    return int(stop.value.code or 0)


def test_the_command(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ratings, titles = tmp_path / "new.csv", tmp_path / "titles.csv"
    lines = ["who,what,stars", *(f"{user},{item},{rating:g}" for user, item, rating in ROWS), "999,9001,3"]
    ratings.write_text("\n".join(lines) + "\n")
    titles.write_text('what,title,genres\n9001,"Brand New, The (2026)",Action|Sci-Fi\n5,Other,Drama\n')
    columns = ["--user-column", "who", "--item-column", "what", "--rating-column", "stars"]
    output = tmp_path / "out"
    asked = ["add-items", str(base), "--ratings", str(ratings), "--items", str(titles), *columns]
    assert run(*asked, "--output", str(output)) == 0
    out = capsys.readouterr().out
    assert "Added 3 items from 54 ratings, 18 to 18 each." in out
    assert "by users that the bundle does not have: 1." in out
    item = Recommender.load(output, "cpu").items[N_ITEMS + 1]
    assert (item.title, item.genres, item.year) == ("Brand New, The (2026)", ("Action", "Sci-Fi"), 2026)

    before = hashes(output)
    assert run(*asked, "--output", str(output)) == 2
    assert "already there" in capsys.readouterr().err
    assert hashes(output) == before
    assert run(*asked, "--output", str(output), "--overwrite", "--json") == 0
    addition = json.loads(capsys.readouterr().out)
    assert addition["item_ids"] == list(NEW)


def test_new_items_without_a_title_are_counted(base: Path, tmp_path: Path, capsys) -> None:
    rows = "".join(f"{user},{item},{rating:g}\n" for user, item, rating in ROWS)
    (tmp_path / "new.csv").write_text(f"user_id,item_id,rating\n{rows}")
    (tmp_path / "titles.csv").write_text("item_id,title\n9001,One\n9002,\n")
    files = ["--ratings", str(tmp_path / "new.csv"), "--items", str(tmp_path / "titles.csv")]
    assert run("add-items", str(base), *files, "--output", str(tmp_path / "out")) == 0
    assert f"has no title for {len(NEW) - 1} of the {len(NEW)} items" in capsys.readouterr().err


def test_numbers_of_the_rules_are_read_with_the_titles(tmp_path: Path, capsys) -> None:
    base = tiny_runs.RAW_ID_FIXTURES / "dot-bias"
    rows = "".join(f"{user},{item},{rating:g}\n" for user, item, rating in ROWS)
    ratings, titles = tmp_path / "new.csv", tmp_path / "titles.csv"
    ratings.write_text(f"user_id,item_id,rating\n{rows}")
    titles.write_text("price,item_id,title,stock\n,9003,Three,1\n7.5,9001,One,2\n")
    asked = ["add-items", str(base), "--ratings", str(ratings), "--items", str(titles)]
    assert run(*asked, "--output", str(tmp_path / "out")) == 0
    assert "have no price" not in capsys.readouterr().err
    new = open_bundle(tmp_path / "out").table("item_number.price")[0, -len(NEW) :]
    assert new.tolist() == [7.5, *2 * [np.float32(UNKNOWN_NUMBER)]]
    titles.write_text("item_id,title,price\n9001,One,7.5 EUR\n")
    assert run(*asked, "--output", str(tmp_path / "text")) == 2
    assert "price is a number in this bundle" in capsys.readouterr().err
    titles.write_text("item_id,title\n9001,One\n")
    assert run(*asked, "--output", str(tmp_path / "none")) == 0
    assert "the new items have no price" in capsys.readouterr().err


def test_ids_that_are_hardly_meant_are_said(tmp_path: Path, capsys) -> None:
    bundle = tiny_runs.FIXTURES / "dot-bias-string-ids"
    user = Recommender.load(bundle, "cpu").users.one_id(1)
    (tmp_path / "new.csv").write_text(f"user_id,item_id,rating\n{user},NULL,4\n{user},x9,3\n")
    (tmp_path / "out").mkdir()  # so that it ends before it solves
    asked = ["add-items", str(bundle), "--ratings", str(tmp_path / "new.csv")]
    assert run(*asked, "--output", str(tmp_path / "out")) != 0
    assert "1 item id is 'NULL': if it stands for no id" in capsys.readouterr().err


@pytest.mark.slow
def test_titles_of_the_ratings_stay_where_items_says_nothing(base: Path, tmp_path: Path) -> None:
    folder, titles = tmp_path / "new", tmp_path / "titles.csv"
    folder.mkdir()
    rows = [f"{user},{item},{rating:g}" for user, item, rating in ROWS]
    (folder / "ratings.csv").write_text("\n".join(["userId,movieId,rating", *rows]) + "\n")
    movies = ["9001,Own One (2001),Drama", "9002,Own Two (2002),Comedy", "9003,Own Three (2003),Horror"]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *movies]) + "\n")
    titles.write_text("item_id,title\n9001,Better One (2011)\nextra,One id that makes text of them all\n")
    asked = ["add-items", str(base), "--ratings", str(folder), "--output", str(tmp_path / "out")]
    assert run(*asked, "--items", str(titles)) == 0
    items = Recommender.load(tmp_path / "out", "cpu").items
    found = [(item.title, item.genres, item.year) for item in (items[N_ITEMS + 1], items[N_ITEMS + 2])]
    assert found == [("Better One (2011)", ("Drama",), 2011), ("Own Two (2002)", ("Comedy",), 2002)]


@pytest.mark.parametrize(
    ("rows", "titles", "options", "message"),
    [
        ("10,9001,good", "item_id,title", [], "line 2: rating 'good'"),
        ("10,9001,4", "id,name\n1,a", [], "no column for item"),
        ("10,9001,4", "item_id,title\nx1,One", [], "its item ids are like 'x1'"),
        *(
            ("10,9001,4", "item_id,title\n9001,One", [f"--regularization={value}"], "must be a number from")
            for value in ("1e-300", "0", "-1")
        ),
    ],
)
def test_the_command_refuses_what_it_can_not_use(
    base: Path, tmp_path: Path, capsys, rows: str, titles: str, options: list[str], message: str
) -> None:
    (tmp_path / "new.csv").write_text(f"user_id,item_id,rating\n{rows}\n")
    (tmp_path / "titles.csv").write_text(f"{titles}\n")
    files = ["--ratings", str(tmp_path / "new.csv"), "--items", str(tmp_path / "titles.csv")]
    assert run("add-items", str(base), *files, "--output", str(tmp_path / "out"), *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
