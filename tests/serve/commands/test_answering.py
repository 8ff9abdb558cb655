"""The answering commands as a shell sees them: exit codes, stdout, stderr."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fixture_bundles import FIXTURES

from serve.bundle.ids import write_items
from serve.runtime.recommender import Recommender

from ..conftest import Run

BUNDLE = str(FIXTURES / "dot-bias")
STRINGS = str(FIXTURES / "dot-bias-string-ids")
MLP = str(FIXTURES / "mlp")
PARTS, RANKING = str(FIXTURES / "parts"), str(FIXTURES / "ranking")


def answered(result: tuple[int, str, str]) -> Any:
    assert result[0] == 0, result
    assert result[2] == ""
    return json.loads(result[1])


def test_recommend_prints_a_table_with_titles(recsys: Run) -> None:
    code, out, err = recsys("recommend", BUNDLE, "--user-id", "10", "-k", "3")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["rating", "id", "title"]
    assert len(lines) == 4
    assert lines[1].endswith("The Movie 3 (1953)")
    rating = Recommender.load(BUNDLE, "cpu").recommend(10, 1).ratings[0]
    assert lines[1].split()[1:3] == ["★" * round(float(rating)), f"{rating:.2f}"]


@pytest.mark.parametrize("command", [("recommend", "--user-id", "10"), ("fold-in", "--rate", "1003=5")])
def test_stars_are_shown_where_ratings_are_predicted(recsys: Run, command: tuple[str, ...]) -> None:
    """Never for a score that only orders the list."""
    name, *arguments = command
    for bundle, has_ratings in ((PARTS, True), (RANKING, False)):
        table, *order = recsys(name, bundle, *arguments, "-k", "3")[1].split("\n\n")
        lines = table.splitlines()
        assert order == (["The likeliest choices first, not the highest ratings.\n"] if has_ratings else [])
        assert lines[0].split()[0] == ("rating" if has_ratings else "score")
        assert all(("★" in line) == has_ratings for line in lines[1:])
        for item in answered(recsys(name, bundle, *arguments, "-k", "3", "--json"))["items"]:
            assert set(item) == {"item_id", "title", "score", "rating"}
            assert (item["rating"] is not None) == has_ratings


@pytest.mark.parametrize("bundle", [PARTS, RANKING])
def test_a_varied_list_says_so(recsys: Run, bundle: Path) -> None:
    """Its ratings are in no order that a reader could see."""
    shown = recsys("recommend", bundle, "--user-id", "10", "-k", "2", "--diversity", "0.1")[1]
    assert shown.endswith("\n\nVaried as asked.\n")
    plain = recsys("recommend", bundle, "--user-id", "10", "-k", "2")
    assert recsys("recommend", bundle, "--user-id", "10", "-k", "2", "--diversity", "0") == plain


def test_inspect_shows_the_parts(recsys: Run) -> None:
    shown = recsys("inspect", PARTS)[1]
    assert re.search(r"bayes +ratings +0\.25 ", shown)
    assert re.search(r"ials +ranking +0\.5 ", shown)
    assert re.search(r"methods +bayes: ridge, ease: sum of input rows, ials: ridge\n", shown)
    assert re.search(r"held-out nDCG@10 +0\.\d{4} \(1 given\), 0\.\d{4} \(3 given\)", shown)


def test_recommend_as_json(recsys: Run) -> None:
    answer = answered(recsys("recommend", BUNDLE, "--user-id", "10", "-k", "3", "--json"))
    ranking = Recommender.load(BUNDLE, "cpu").recommend(10, 3)
    assert answer["user_id"] == 10
    assert answer["known"] is True
    assert [set(item) for item in answer["items"]] == [{"item_id", "title", "score", "rating"}] * 3
    assert [item["item_id"] for item in answer["items"]] == ranking.item_ids.tolist()
    assert [item["score"] for item in answer["items"]] == pytest.approx(ranking.scores.tolist())
    assert [item["rating"] for item in answer["items"]] == pytest.approx(ranking.ratings.tolist())


def test_string_ids(recsys: Run) -> None:
    answer = answered(recsys("recommend", STRINGS, "--user-id", "user-010", "--json"))
    assert (answer["user_id"], answer["known"]) == ("user-010", True)
    assert answer["items"][0]["item_id"].startswith("item-")


def test_an_unknown_user_gets_the_average_with_a_note(recsys: Run) -> None:
    assert answered(recsys("recommend", BUNDLE, "--user-id", "7", "--json"))["known"] is False
    assert "User 7 is not in this bundle" in recsys("recommend", BUNDLE, "--user-id", "7")[1]
    code, _, err = recsys("recommend", BUNDLE, "--user-id", "7", "--unknown", "error")
    assert code == 2
    assert "user_id 7 is not in this bundle" in err


@pytest.mark.parametrize(
    "how", [("--item", "Movie 3, The (1953)"), ("--item-id", "1003"), ("--item", "1003")]
)
def test_similar(recsys: Run, how: tuple[str, str]) -> None:
    answer = answered(recsys("similar", BUNDLE, *how, "-k", "4", "--json"))
    assert (answer["item_id"], answer["title"]) == (1003, "Movie 3, The (1953)")
    assert len(answer["items"]) == 4
    assert 1003 not in [item["item_id"] for item in answer["items"]]
    assert "cosine" in recsys("similar", BUNDLE, *how)[1]


def test_fold_in(recsys: Run) -> None:
    rates = ("--rate", "Movie 3, The (1953)=5", "--rate", "1004=0.5")
    answer = answered(recsys("fold-in", BUNDLE, *rates, "--json"))
    assert [(rating["item_id"], rating["rating"]) for rating in answer["ratings"]] == [(1003, 5), (1004, 0.5)]
    expected = Recommender.load(BUNDLE, "cpu").fold_in([1003, 1004], [5, 0.5])
    assert [item["item_id"] for item in answer["items"]] == expected.item_ids.tolist()
    assert "Movie" in recsys("fold-in", BUNDLE, *rates)[1]


def test_fold_in_of_a_file_says_what_it_leaves_out(recsys: Run, tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("item_id,rating\n1003,5\n7,4\n")
    code, out, err = recsys("fold-in", BUNDLE, "--ratings", str(path), "--rate", "1004=0.5", "--json")
    by_hand = recsys("fold-in", BUNDLE, "--rate", "1004=0.5", "--rate", "1003=5", "--json")[1]
    assert code == 0
    assert json.loads(out)["items"] == json.loads(by_hand)["items"]
    assert "1 rating left out:" in err
    assert "line 3: item_id '7': not in the bundle" in err
    path.write_text("item_id,rating\n7,4\n")
    assert recsys("fold-in", BUNDLE, "--ratings", str(path))[0] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("recommend", BUNDLE, "--user-id", "ten"), 2, "must be an integer (int64), got 'ten'"),
        (("recommend", BUNDLE), 2, "Take one of --user-id, --input and --all-users"),
        (("recommend", BUNDLE, "--user-id", "10", "-k", "0"), 2, "not in the range x>=1"),
        (("recommend", BUNDLE, "--user-id", "10", "-k", "51"), 2, "got 51. It has no more items."),
        (("recommend", "nowhere", "--user-id", "10"), 2, "Path 'nowhere' does not exist"),
        (("recommend", BUNDLE, "--user-id", "10", "--device", "tpu"), 2, "'tpu' is not one of"),
        (("similar", BUNDLE), 2, "either --item-id or --item"),
        (("similar", BUNDLE, "--item", "a", "--item-id", "1"), 2, "either --item-id or --item"),
        (("similar", BUNDLE, "--item", "Movy 3, The (1953)"), 2, "'Movie 3, The (1953)'"),
        (("similar", BUNDLE, "--item-id", "3"), 2, "item_id 3 is not in this bundle"),
        (("fold-in", BUNDLE), 2, "Missing option '--rate'"),
        (("fold-in", BUNDLE, "--rate", "Movie 3, The (1953)"), 2, "is not TITLE_OR_ID=RATING"),
        (("fold-in", BUNDLE, "--rate", "=5"), 2, "is not TITLE_OR_ID=RATING"),
        (("fold-in", BUNDLE, "--rate", "1003=good"), 2, "is not TITLE_OR_ID=RATING"),
        (("fold-in", BUNDLE, "--rate", "1003=nan"), 2, "is not TITLE_OR_ID=RATING"),
        *(
            (("fold-in", BUNDLE, "--rate", f"1003={text}"), 2, "is not TITLE_OR_ID=RATING")
            for text in ("0x4", "1_0", "４")
        ),
        *(
            (("recommend", BUNDLE, "--user-id", "10", "-k", text), 2, "is not a decimal integer")
            for text in ("1_0", "+5", "0x5", "5.0", "５")
        ),
        *(
            (("recommend", BUNDLE, "--user-id", text), 2, "must be an integer")
            for text in ("+10", "1_0", "１０")
        ),
        *(
            (("similar", BUNDLE, "--item-id", text), 2, "must be an integer")
            for text in ("+1003", "1_003", "1003.0")
        ),
        (("fold-in", BUNDLE, "--rate", "1003=6"), 2, "ratings must lie in 0.5 to 5"),
        (("fold-in", BUNDLE, "--rate", "a=b=5"), 2, "no item has the title or id 'a=b'"),
        (("fold-in", BUNDLE, "--rate", "1003=5", "--rate", "1003=4"), 2, "rated more than once"),
        (("fold-in", MLP, "--rate", "1003=5"), 1, "no fold_in graph"),
        (("inspect", "nowhere"), 2, "Path 'nowhere' does not exist"),
        (("inspect", str(FIXTURES)), 2, "is not a bundle"),
    ],
)
def test_wrong_usage_is_reported_in_a_line(
    recsys: Run, arguments: tuple[str, ...], code: int, message: str
) -> None:
    found, out, err = recsys(*arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_an_id_may_begin_with_a_space(recsys: Run, copy: Path, forge: Any, tmp_path: Path) -> None:
    questions = json.loads((copy / "profiles.json").read_text())["questions"]
    first, second = (question["item_index"] for question in questions[:2])
    ids = [{first: " x", second: "x"}.get(place, f"item {place}") for place in range(1, 51)]
    write_items(tmp_path / "items.parquet", ids)
    forge("items.parquet", (tmp_path / "items.parquet").read_bytes())
    answer = answered(recsys("fold-in", str(copy), "--rate", " x=5", "--rate", "x =1", "--json"))
    assert [rating["item_id"] for rating in answer["ratings"]] == [" x", "x"]
    answers = ("--answer", " x=like", "--answer", "x = dislike")
    shown = [item["item_id"] for item in answered(recsys("profiles", str(copy), *answers, "--json"))["items"]]
    assert len(shown) == 10
    assert not {" x", "x"} & set(shown)


def test_a_title_may_hold_an_equals_sign(recsys: Run, copy: Path, forge: Any, tmp_path: Path) -> None:
    ids = list(range(1001, 1051))
    write_items(tmp_path / "items.parquet", ids, titles=["E=mc²", *(f"\x1b[2J Movie {i}" for i in ids[1:])])
    forge("items.parquet", (tmp_path / "items.parquet").read_bytes())
    answer = answered(recsys("fold-in", str(copy), "--rate", "E=mc²=4.5", "--json"))
    assert answer["ratings"] == [{"item_id": 1001, "title": "E=mc²", "rating": 4.5}]
    # Escape codes in titles do not reach the terminal.
    code, out, _ = recsys("fold-in", str(copy), "--rate", "1001=4.5")
    assert code == 0
    assert "\x1b" not in out
    assert "\ufffd[2J Movie" in out


def test_inspect_shows_what_is_inside(recsys: Run, bundle_path: Path) -> None:
    code, out, _ = recsys("inspect", str(bundle_path))
    assert code == 0
    manifest = json.loads((bundle_path / "manifest.json").read_text())
    for expected in (
        *manifest["graphs"],
        *(table["name"] for table in manifest["tables"]),
        *(file["sha256"] for file in manifest["files"].values()),
        manifest["data"]["licence"],
        *manifest["versions"].values(),
        *(f"{check['n']:,}" for check in manifest["parity"]["checks"]),
    ):
        assert expected in out
    shown = answered(recsys("inspect", str(bundle_path), "--json"))
    assert shown["bundle"] == str(bundle_path)
    assert {key: shown[key] for key in manifest} == manifest


def test_inspect_of_a_fold_in_without_a_held_out_error(recsys: Run, copy: Path, edit_manifest: Any) -> None:
    edit_manifest(lambda manifest: manifest["fold_in"].update(held_out_rmse=None, n_held_out_users=0))
    code, out, err = recsys("inspect", str(copy))
    assert (code, err) == (0, "")
    assert "unknown (0 users)" in out


def test_inspect_tells_which_items_were_added_later(recsys: Run, copy: Path, edit_manifest: Any) -> None:
    assert "added later" not in recsys("inspect", str(copy))[1]
    of_base: dict[str, Any] = {"base_version": "0" * 64, "data_sha256": "0" * 64, "left_out_rmse": None}
    counts = {"n_unknown_users": 0, "n_items_left_out": 0, "n_known_items": 0, "regularization": 1.0}
    added = [
        {**of_base, **counts, "data": name, "item_ids": ids, "n_item_ratings": [3] * len(ids)}
        for name, ids in (("spring.csv", [1048, 1049]), ("summer.csv", [1050]))
    ]

    def add(manifest: dict[str, Any]) -> None:
        manifest.update(additions=added)
        manifest["data"]["n_ratings"] -= 9  # of the training

    edit_manifest(add)
    code, out, _ = recsys("inspect", str(copy))
    assert code == 0
    line = next(line for line in out.splitlines() if "added later" in line)
    assert line.endswith("  2 of them, from spring.csv; 1 of them, from summer.csv")


def test_inspect_refuses_a_damaged_bundle(recsys: Run, copy: Path) -> None:
    with (copy / "score.onnx").open("ab") as file:
        file.write(b"\0")
    code, out, err = recsys("inspect", str(copy))
    assert (code, out) == (1, "")
    assert "score.onnx has" in err


def test_an_answer_imports_nothing_that_it_does_not_need() -> None:
    """What keeps the start quick, and the answer free of torch."""
    program = (
        "import sys; from recsys.cli import main\n"
        f"try: main(['recommend', {BUNDLE!r}, '--user-id', '10'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "unwanted = {'torch', 'onnx', 'pandas', 'rich', 'pyarrow.compute', 'rapidfuzz'}\n"
        "print(unwanted & set(sys.modules), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "set()"
