"""Two bundles side by side: which is better, how far lists agree, and what can't be compared."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_bundles import FIXTURES, RAW_ID_FIXTURES, edit_manifest
from tabs import PHONE

from demos.report.comparison import Pair, agreement, difference, metric_rows, verdict
from demos.report.page import comparison_page
from serve import Recommender
from serve.bundle.ids import write_items, write_users
from serve.errors import RequestError


def load(path: Path) -> Recommender:
    return Recommender.load(path, "cpu", threads=1)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair(load(RAW_ID_FIXTURES / "parts"), load(FIXTURES / "dot-bias"))


@pytest.fixture
def edited(tmp_path):
    """A copy of a bundle with other ids or another manifest."""

    def edit(change=lambda manifest: None, *, users: Any = None, items: Any = None, titles: Any = None):
        folder = Path(shutil.copytree(FIXTURES / "dot-bias", tmp_path / "edited"))
        if users is not None:
            (folder / "users.parquet").unlink()
            write_users(folder / "users.parquet", users)
        if items is not None:
            (folder / "items.parquet").unlink()
            write_items(folder / "items.parquet", items, titles=titles)
        edit_manifest(folder, change)
        return load(folder)

    return edit


def test_the_better_value_of_each_metric_is_marked(pair) -> None:
    a, b = (one.manifest for one in pair.both)
    rows = {row.key: row for row in metric_rows(a, b)}
    assert set(rows) == {*["rmse", "mae", "ndcg_at_k", "recall_at_k", "precision_at_k", "mrr_at_k"]} | {
        *["hit_rate_at_k", "coverage_at_k", "popularity_at_k"]
    }
    for key, row in rows.items():
        assert row.values == (a.metrics[key], b.metrics[key])
    # The ratings of dot-bias are nearer, the lists of three parts better.
    assert {key: row.better for key, row in rows.items()} == {
        **dict.fromkeys(["rmse", "mae"], 1),
        **dict.fromkeys(["ndcg_at_k", "recall_at_k", "precision_at_k", "mrr_at_k", "hit_rate_at_k"], 0),
        **dict.fromkeys(["coverage_at_k", "popularity_at_k"], None),
    }
    assert verdict(pair) == (
        "A ranks 54 % better (nDCG@10 0.1588 against 0.1029); "
        "B predicts ratings 8 % better (RMSE 1.7321 against 1.8911)."
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda manifest: manifest["data"].update(sha256="1" * 64), "trained on different data"),
        (lambda manifest: manifest["split"].update(seed=7), "different ratings were held out"),
        (lambda manifest: manifest["metrics"].update(n_held_out=9), "different ratings were held out"),
        (lambda manifest: manifest["metrics"].update(k=5), "different lengths"),
    ],
)
def test_what_was_measured_otherwise_is_not_judged(pair, edited, change, why) -> None:
    other = Pair(pair.both[0], edited(change))
    a, b = (one.manifest for one in other.both)
    assert why in (difference(a, b) or "")
    assert {row.better for row in metric_rows(a, b)} == {None}
    assert verdict(other) == f"The metrics of the two do not compare: {difference(a, b)}."


def test_metrics_that_are_missing_or_no_numbers_are_not_compared(pair, edited) -> None:
    def spoil(manifest: dict[str, Any]) -> None:
        manifest["metrics"].update(rmse="<b>", mae=None, ndcg_at_k=True)

    other = Pair(pair.both[0], edited(spoil))
    rows = {row.key: row for row in metric_rows(*(one.manifest for one in other.both))}
    for key in ("rmse", "mae", "ndcg_at_k"):
        assert (rows[key].values[1], rows[key].better) == (None, None)
    assert verdict(other) == "No metric is known of both."
    assert "<b>" not in comparison_page(other)


def test_the_agreement_is_counted_user_by_user(pair) -> None:
    found = agreement(pair, 5)
    n_both = []
    for user in pair.user_ids.to_pylist():
        first, second = (set(one.recommend(user, 5).item_ids.tolist()) for one in pair.both)
        n_both.append(len(first & second))
    assert found.counts == np.bincount(n_both, minlength=6).tolist()
    assert found.n_users == len(n_both) == 30
    assert found.mean == pytest.approx(np.mean(n_both))
    for one, n_listed, popularity in zip(pair.both, found.n_listed, found.popularity, strict=True):
        listed = [one.recommend(user, 5).item_indices.tolist() for user in pair.user_ids.to_pylist()]
        assert n_listed == len({index for row in listed for index in row})
        shares = [
            sum(index in one.seen.of_user(user) for user in range(1, 31)) / 30
            for row in listed
            for index in row
        ]
        assert popularity == pytest.approx(np.mean(shares))


def test_users_and_items_of_both_count_by_id(pair, edited) -> None:
    """B knows a third of the users and every other item, in another order."""
    users = [*range(300, 100, -10), *range(5000, 5010)]
    items = np.where(np.arange(50) % 2, np.arange(1050, 1000, -1), np.arange(7001, 7051))
    other = Pair(pair.both[0], edited(users=users, items=items))
    assert other.user_ids.to_pylist() == list(range(110, 301, 10))
    assert other.item_ids.to_pylist() == [n for n in range(1001, 1051) if n in items]
    found = agreement(other, 4)
    assert found.n_users == 20
    first, second = (one.recommend(110, 4).item_ids.tolist() for one in other.both)
    assert found.counts[len({*first} & {*second})] > 0


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ({"users": range(1, 300, 10)}, "no user in common: ids are such as 10 in the first, 1 in the second"),
        ({"users": [f"u{n}" for n in range(30)]}, "no user in common: .* 'u0' in the second"),
        ({"items": range(1, 51)}, "no item in common"),
        (
            {"items": range(1001, 1051), "titles": [f"Other {n}" for n in range(50)]},
            "only 0 of 50 item ids have the same title in both",
        ),
    ],
)  # fmt: skip
def test_bundles_of_other_data_are_refused(pair, edited, ids, said) -> None:
    with pytest.raises(RequestError, match=said):
        Pair(pair.both[0], edited(**ids))


def test_a_bundle_is_not_compared_with_itself(tmp_path) -> None:
    copy = Path(shutil.copytree(FIXTURES / "dot", tmp_path / "copy"))
    with pytest.raises(RequestError, match=r"copy are the same bundle: name two that differ"):
        Pair(load(FIXTURES / "dot"), load(copy))


def test_lists_are_without_what_either_bundle_knows_of_the_user(pair, tmp_path) -> None:
    """B was exported without ratings, and knows half of the items by the ids of A."""
    copy = Path(shutil.copytree(FIXTURES / "dot-bias", tmp_path / "copy"))
    for name in ("seen.parquet", "items.parquet"):
        (copy / name).unlink()
    write_items(copy / "items.parquet", np.arange(1026, 1076))

    def leave_out(manifest: dict[str, Any]) -> None:
        manifest["without_seen"] = True
        del manifest["files"]["seen.parquet"]

    edit_manifest(copy, leave_out)
    other = Pair(pair.both[0], load(copy))
    seen = pair.both[0].seen.of_user(3).tolist()
    a, b = other.rated((3, 3))
    assert sorted(a.tolist()) == sorted(seen)
    assert sorted(b.tolist()) == sorted(index - 25 for index in seen if index > 25)
    assert [one.tolist() for one in other.rated((0, 0))] == [[], []]
    n_both = []
    for user in range(1, 31):
        first, second = (
            one.recommend(
                one.users.one_id(user),
                5,
                exclude_seen=False,
                exclude_item_ids=one.items.ids.ids(rated).tolist(),
            ).item_ids
            for one, rated in zip(other.both, other.rated((user, user)), strict=True)
        )
        n_both.append(len({*first.tolist()} & {*second.tolist()}))
    found = agreement(other, 5)
    assert found.counts == np.bincount(n_both, minlength=6).tolist()
    assert found.popularity[1] is None
    assert "–" in comparison_page(other)


def test_two_of_a_kind_are_told_apart_by_their_versions(edited) -> None:
    other = edited(lambda manifest: manifest["split"].update(seed=7))
    names = Pair(load(FIXTURES / "dot-bias"), other).names
    assert names[1] == f"B: dot-bias ({other.bundle.version[:8]})"
    assert names[0] != names[1].replace("B:", "A:")


def test_the_page(pair, open_tab, tmp_path) -> None:
    path = tmp_path / "comparison.html"
    path.write_text(comparison_page(pair), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == comparison_page(pair)
    page = open_tab(path.as_uri(), silent=True, viewport=PHONE)
    assert page.inner_text("h1") == "A: bayes + ease + ials against B: dot-bias"
    assert page.inner_text(".verdict") == verdict(pair)
    found = agreement(pair)
    assert f"{found.mean:.1f} of 10" in page.inner_text(".tiles")
    marked = page.locator("td.good:has([aria-label=better])")
    assert marked.count() == 7
    tips = page.locator("svg title").all_text_contents()
    assert f"items in both lists 10, users: {found.counts[10]}" in tips
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


@pytest.mark.slow
def test_the_command(tmp_path, pair) -> None:
    def recsys(*arguments: Any) -> tuple[int, str]:
        line = [sys.executable, "-m", "recsys", "report", *map(str, arguments)]
        done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path)
        return done.returncode, done.stderr

    a, b = (one.bundle.path for one in pair.both)
    assert recsys(a.absolute(), b.absolute()) == (0, "")
    assert (tmp_path / "comparison.html").read_text(encoding="utf-8") == comparison_page(pair)
    for wrong, code, said in (
        (a.absolute(), 2, "are the same bundle"),
        (tmp_path, 2, "is not a bundle"),
        (tmp_path / "none", 2, "does not exist"),
        ((FIXTURES / "dot-bias-string-ids").absolute(), 2, "no user in common"),
    ):
        found = recsys(a.absolute(), wrong)
        assert found[0] == code, found
        assert said in found[1]
        assert "Traceback" not in found[1]
