"""Users who are taken out of a bundle: nothing that is theirs alone is left, nobody else's answers change."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import planted_tastes
import pyarrow.parquet as pq
import pytest
import tiny_runs
from fixture_bundles import FIXTURES, RAW_ID_FIXTURES, edit_manifest

from export.add_items.add_items import add_items
from export.forget.forget import forget
from export.forget.tables import Counts, rows_without
from export.verify.evaluate_bundle import check_data
from export.write.bundle import export_run
from recsys.cli import main
from recsys.errors import DataError
from serve.bundle.bundle import open_bundle
from serve.errors import BundleError, RequestError, UnknownIdError
from serve.runtime.checked_graph import check_all
from serve.runtime.profiles import Profiles
from serve.runtime.recommender import Recommender

FORGOTTEN = np.array([1, 15])
"""Both are users of the base's conformance cases."""
STAY = np.setdiff1d(np.arange(1, tiny_runs.N_USERS + 1), FORGOTTEN)
MANIFEST = "manifest.json"

Forget = Callable[[Path], tuple[Path, Path]]


@pytest.fixture(scope="session")
def without(tmp_path_factory: pytest.TempPathFactory) -> Forget:
    """A bundle, and the one without `FORGOTTEN`, made once by the command: neither is to be changed."""
    made: dict[Path, Path] = {}

    def get(base: Path) -> tuple[Path, Path]:
        if base not in made:
            folder = tmp_path_factory.mktemp("forgotten")
            output = folder / "bundle"
            users = Recommender.load(base, "cpu").users
            first, second = (users.one_id(index) for index in FORGOTTEN.tolist())
            (folder / "gone.csv").write_text(f"userId\n{second}\n{first}\n")
            arguments = ["--user-id", first, "--input", folder / "gone.csv", "--output", output, "--json"]
            assert run("forget", base, *arguments) == 0
            made[base] = output
        return base, made[base]

    return get


slow = pytest.mark.slow
BASES = [
    pytest.param(RAW_ID_FIXTURES / "parts", id="parts", marks=slow),
    pytest.param(FIXTURES / "mlp", id="mlp"),
    *(pytest.param(FIXTURES / kind, id=kind, marks=slow) for kind in ("dot", "dot-bias", "ranking")),
    pytest.param(RAW_ID_FIXTURES / "dot-bias-string-ids", id="string-ids", marks=slow),
]


@pytest.fixture(params=BASES)
def both(request: pytest.FixtureRequest, without: Forget) -> tuple[Recommender, Recommender]:
    """Before and after."""
    before, after = (Recommender.load(path, "cpu") for path in without(request.param))
    return before, after


def test_the_forgotten_are_unknown(both: tuple[Recommender, Recommender]) -> None:
    before, after = both
    for index in FORGOTTEN.tolist():
        user_id = before.users.one_id(index)
        found = after.recommend(user_id, 5)
        assert not found.known
        np.testing.assert_array_equal(found.item_indices, after.rank(np.zeros(1, int), 5).indices[0])
        with pytest.raises(UnknownIdError, match="28 are"):
            after.recommend(user_id, 5, unknown="error")
    assert after.resolve([before.users.one_id(index) for index in STAY.tolist()]).tolist() == STAY.tolist()


def test_everyone_else_has_the_same_answers(both: tuple[Recommender, Recommender]) -> None:
    """All scores bit for bit; and all lists, by the same scores."""
    before, after = both
    users, items = (axis.ravel() for axis in np.meshgrid(STAY, np.arange(tiny_runs.N_ITEMS + 1)))
    np.testing.assert_array_equal(before.score_indices(users, items), after.score_indices(users, items))
    for exclude_seen in (True, False):
        tops = [one.rank(STAY, 20, exclude_seen=exclude_seen) for one in both]
        np.testing.assert_array_equal(tops[0].indices, tops[1].indices)
        np.testing.assert_array_equal(tops[0].scores, tops[1].scores)


def test_the_rows_are_the_average_of_the_others(both: tuple[Recommender, Recommender]) -> None:
    """Of the base, the row of one forgotten user would follow from the average and all other rows."""
    before, after = both
    for table in after.manifest.tables:
        if table.name in ("user_factors", "user_biases", "ranking_user_factors"):
            old, rows = before.bundle.table(table.name), after.bundle.table(table.name)
            np.testing.assert_array_equal(rows[STAY], old[STAY])
            average = old[STAY].mean(axis=0, dtype=np.float64)
            for index in (0, *FORGOTTEN.tolist()):
                np.testing.assert_allclose(rows[index], average, rtol=0, atol=1e-6 * np.abs(old).max())
    assert not np.allclose(before.bundle.table("user_factors")[0], after.bundle.table("user_factors")[0])


def test_their_ratings_are_gone(both: tuple[Recommender, Recommender]) -> None:
    before, after = both
    for index in FORGOTTEN.tolist():
        assert len(before.seen.of_user(index))
        assert not len(after.seen.of_user(index))
    for index in STAY.tolist():
        old, new = before.seen.history(index), after.seen.history(index)
        np.testing.assert_array_equal(new.item_indices, old.item_indices)
        np.testing.assert_array_equal(new.ratings, old.ratings)
        np.testing.assert_array_equal(new.timestamps, old.timestamps)
    assert after.manifest.data.n_ratings == len(after.seen)


def test_no_conformance_case_has_their_ratings(both: tuple[Recommender, Recommender]) -> None:
    """The base's cases have; the golden rows of the new bundle are those of users who stay."""
    of_users = []
    for one in both:
        found = set()
        cases = json.loads(one.bundle.file("conformance.json").read_bytes())["graphs"]
        for case in (case for of_graph in cases.values() for case in of_graph):
            inputs = {
                name: np.array(value["data"]).reshape(value["shape"])
                for name, value in case["inputs"].items()
            }
            found |= set(inputs.get("user_index", np.zeros(0, int)).tolist())
            for items in inputs.get("item_indices", np.zeros((0, 1), int)):
                for index in range(1, tiny_runs.N_USERS + 1):
                    rated = both[0].seen.of_user(index)
                    if np.count_nonzero(items) > 1 and np.isin(items[items > 0], rated).all():
                        found.add(index)
        of_users.append(found - {0})
    assert set(FORGOTTEN.tolist()) <= of_users[0]
    assert of_users[1]
    assert not set(FORGOTTEN.tolist()) & of_users[1]


def test_no_count_has_their_ratings(both: tuple[Recommender, Recommender]) -> None:
    _, after = both
    old, new = (
        np.bincount(pq.read_table(one.bundle.file("seen.parquet"))["item_index"], minlength=51)
        for one in both
    )
    fewer = np.flatnonzero(new < old)
    counts = [one.bundle.table("item_support")[:, 0] for one in both]
    assert (counts[1][fewer] <= counts[0][fewer]).all()
    assert (counts[1][fewer] < counts[0][fewer]).any()
    np.testing.assert_array_equal(np.delete(counts[0], fewer), np.delete(counts[1], fewer))
    if after.manifest.item_rules is not None:
        prices = [one.bundle.table("item_number.price") for one in both]
        np.testing.assert_array_equal(*prices)
        n_ratings = [one.bundle.table("item_n_ratings")[0] for one in both]
        np.testing.assert_array_equal(
            n_ratings[1], np.rint(n_ratings[0] * np.where(old > 0, new / np.maximum(old, 1), 1))
        )
        if after.manifest.model.ranking is not None:  # the same counts, as logarithms
            mean, scale = after.manifest.model.ranking.popularity
            column = after.bundle.table("ranking_item_factors")[1:, -1]
            np.testing.assert_allclose(np.expm1(column / scale + mean), n_ratings[1][1:], atol=1e-3)
            np.testing.assert_allclose(column.mean(), 0, atol=1e-5)


def test_profiles_are_of_those_who_stay(both: tuple[Recommender, Recommender]) -> None:
    profiles = Profiles.of(both[1]).profiles
    assert profiles is not None
    assert not {one.user_index for one in profiles} & set(FORGOTTEN.tolist())
    assert sum(one.n_users for one in profiles) == len(STAY)


def test_the_manifest_says_how_many_and_not_who(both: tuple[Recommender, Recommender]) -> None:
    before, after = both
    (entry,) = after.manifest.forgotten
    assert (entry.base_version, entry.n_users) == (before.bundle.version, 2)
    assert after.manifest.parity.passed
    assert check_all(after) is None


def test_no_file_names_them(without: Forget) -> None:
    """Graphs, JSON and Parquet; the ids of the base are in three of its files."""
    base, output = without(RAW_ID_FIXTURES / "parts")
    assert pq.read_table(base / "users.parquet")["user_id"].to_pylist()[14] == 150
    assert pq.read_table(output / "users.parquet")["user_id"].to_pylist()[14] is None
    keys = [np.array([ids], np.int64).tobytes() for ids in ([10, 20], [140, 150, 160])]
    graphs = [(folder / "recommend_by_id.onnx").read_bytes() for folder in (base, output)]
    assert all(key in graphs[0] and key not in graphs[1] for key in keys)
    found = Recommender.load(output, "cpu").run_graph(
        "recommend_by_id", {"user_id": np.array([10, 20, 150]), "exclude_item_ids": np.array([[-1]] * 3)}
    )
    assert found["known"].tolist() == [False, True, False]


@pytest.mark.slow
def test_no_file_names_them_where_ids_are_text(without: Forget) -> None:
    base, output = without(RAW_ID_FIXTURES / "dot-bias-string-ids")
    for name in (b"user-010", b"user-150"):
        held = [
            {path.name for path in folder.iterdir() if name in path.read_bytes()} for folder in (base, output)
        ]
        assert {"recommend_by_id.onnx", "conformance.json"} <= held[0]
        assert held[1] == set()


def test_all_users_are_those_who_stay(without: Forget, tmp_path: Path) -> None:
    output = without(FIXTURES / "mlp")[1]
    lists = tmp_path / "lists"
    assert run("recommend", output, "--all-users", "--output", lists, "--workers", "1") == 0
    rows = pq.read_table(lists).to_pylist()
    assert [row["user_id"] for row in rows] == (10 * STAY).tolist()
    assert all(row["known"] for row in rows)


def test_the_data_can_measure_it_no_more(without: Forget) -> None:
    with pytest.raises(DataError, match="2 users were taken out"):
        check_data(Recommender.load(without(FIXTURES / "mlp")[1], "cpu"), tiny_runs.interactions())


def test_ids_of_a_damaged_bundle(without: Forget, tmp_path: Path) -> None:
    """As many ids are missing as the manifest says."""
    copy = Path(shutil.copytree(without(FIXTURES / "mlp")[1], tmp_path / "copy"))
    manifest = json.loads((copy / MANIFEST).read_bytes())
    for n_users, problem in ((3, "2 of user_id are missing, not 3"), (30, "can't have been forgotten")):
        manifest["forgotten"][0]["n_users"] = n_users
        (copy / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(BundleError, match=problem):
            check_all(Recommender.load(copy, "cpu"))


def test_numbers_in_a_table_of_another_shape(tmp_path: Path) -> None:
    base = Path(shutil.copytree(RAW_ID_FIXTURES / "dot", tmp_path / "base"))
    for graph in base.glob("*_filtered.onnx"):
        model = onnx.load(graph)
        table = next(one for one in model.graph.initializer if one.name == "item_number.price")
        del table.dims[0]  # all of its graph's answers stay right
        onnx.save(model, graph)

    def flat(manifest: dict[str, Any]) -> None:
        next(one for one in manifest["tables"] if one["name"] == "item_number.price")["shape"] = [51]

    edit_manifest(base, flat)
    with pytest.raises(BundleError, match=r"item_number\.price of .* should be .*\[1, 51\]"):
        forget(base, [10], tmp_path / "new")


@pytest.mark.slow
def test_more_users_and_more_items(tmp_path: Path) -> None:
    """One after the other. The counts of added items are exact: none of their ratings is held out."""
    run_folder = planted_tastes.make_run(tmp_path / "run")
    export_run(run_folder, tmp_path / "bundle", raw_ids=True)
    forget(tmp_path / "bundle", [10], tmp_path / "second")
    rows = [(10 * user, 9001, 5.0) for user in range(1, 10)]
    from ..add_items.test_add_items import ratings_of

    made = add_items(tmp_path / "second", ratings_of(rows), tmp_path / "third")
    assert (made.additions[0].n_item_ratings, made.additions[0].n_unknown_users) == ([8], 1)
    last = forget(tmp_path / "third", [20, 300], tmp_path / "fourth")
    assert [one.n_users for one in last.forgotten] == [1, 2]
    assert last.additions[0].n_item_ratings == [7]
    assert open_bundle(tmp_path / "fourth").manifest.n_forgotten == 3
    with pytest.raises(UnknownIdError, match="27 are"):
        forget(tmp_path / "fourth", [10], tmp_path / "fifth")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parts", "ranking", "dot-bias", "mlp"])
def test_one_file_of_tables_and_quantised_rows(
    kind: str, tiny_run: Callable[[str], Path], tmp_path: Path
) -> None:
    base, output = tmp_path / "base", tmp_path / "output"
    options = dict.fromkeys(("filtered", "raw_ids", "variety"), True)
    export_run(tiny_run(kind), base, tables_file="always", fast=kind != "mlp", **options)
    made = forget(base, [10], output)
    assert {"tables.bin"} <= made.files.keys()
    assert made.graphs.keys() == open_bundle(base).manifest.graphs.keys()


def test_counts_are_exact_where_nothing_was_held_out() -> None:
    counts = Counts(np.array([0, 5, 3, 1, 0]), np.array([0, 4, 3, 0, 0]))
    np.testing.assert_array_equal(counts.left_of(counts.before), counts.after)
    np.testing.assert_array_equal(counts.left_of(np.array([0, 4, 3, 1, 7])), [0, 3, 3, 0, 7])


def test_untrained_rows_do_not_count() -> None:
    """They are row 0, and stay it; where nobody else is left, there is no average."""
    table = np.array([[2, 2], [1, 0], [3, 4], [2, 2]], np.float32)
    (found,) = rows_without([table], np.array([1]))
    np.testing.assert_array_equal(found, [[3, 4], [3, 4], [3, 4], [3, 4]])
    with pytest.raises(RequestError, match="nobody who was in the training"):
        rows_without([table], np.array([1, 2]))


def run(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def test_inspect_says_so(without: Forget, capsys: pytest.CaptureFixture[str]) -> None:
    output = without(FIXTURES / "mlp")[1]
    capsys.readouterr()
    assert run("inspect", output) == 0
    assert re.search(r"users forgotten +2\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Name the users: --user-id"),
        (["--user-id", "11"], "user_id 11 is not in this bundle (30 are)"),
        (["--user-id", "ten"], "user_id must be an integer"),
        (["--input", "none.csv"], "nobody is named"),
        (["--input", "bad.csv"], "'x' is no user id"),
        (["--input", "other.csv"], "no column"),
        (
            [part for index in range(1, 31) for part in ("--user-id", str(10 * index))],
            "these are all 30 users",
        ),
    ],
)
def test_what_is_refused(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("none.csv").write_text("user_id\n")
    Path("bad.csv").write_text("user_id\n10\nx\n")
    Path("other.csv").write_text("name\n10\n")
    assert run("forget", FIXTURES / "mlp", *arguments, "--output", "made") == 2
    assert told in capsys.readouterr().err
    assert not Path("made").exists()


def test_packed_tables_are_not_rounded_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = RAW_ID_FIXTURES / "dot-int4"
    assert run("forget", packed, "--user-id", "10", "--output", tmp_path / "made") == 1
    assert "has packed tables (int4)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
