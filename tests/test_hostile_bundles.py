"""Any bundle, through any entrance: a refusal in a line, or answers that obey what the bundle says."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import pytest
from fixture_bundles import BUNDLES, FIXTURES, RAW_ID_FIXTURES
from hostile_bundles import mutate

from recsys.cli import main
from serve import Profiles, Recommender, open_bundle
from serve.errors import ServeError
from serve.http.model import load_model

DEFAULTS = {"BUNDLES": 600, "FIRST": 1000}
MOST_SECONDS, MOST_BYTES = 5, 1 << 30
# What `main` adds to the message of an exception that is not the project's.
RAW = "with --debug for details"


def command(*arguments: object) -> str | None:
    """The output of a command; None: it was refused with a message."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        with pytest.raises(SystemExit) as stop:
            main(list(map(str, arguments)))
        out.flush(), err.flush()
    code = int(stop.value.code or 0)
    printed, said = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    assert RAW not in said, said
    assert "Traceback" not in said, said
    assert (code in (1, 2)) == ("Error: " in said), (code, said)
    return printed if code == 0 else None


def check_items(bundle: Path, items: list[dict[str, Any]]) -> None:
    ids = pq.read_table(bundle / "items.parquet")["item_id"].to_pylist()
    low, high = json.loads((bundle / "manifest.json").read_bytes())["data"]["ratings_range"]
    listed = [item["item_id"] for item in items]
    assert set(listed) <= set(ids)
    assert len(set(listed)) == len(listed)
    scores = [item["score"] for item in items]
    assert np.isfinite(scores).all()
    assert scores == sorted(scores, reverse=True)
    ratings = [item["rating"] for item in items if item.get("rating") is not None]
    assert all(low - 1e-6 * abs(low) <= rating <= high + 1e-6 * abs(high) for rating in ratings)


def listing(*arguments: object) -> bool:
    out = command(*arguments, "--json")
    if out is not None:
        check_items(Path(str(arguments[1])), json.loads(out)["items"])
    return out is not None


def recommend(bundle: Path, folder: Path) -> bool:
    return listing("recommend", bundle, "--user-id", first_id("users", "user_id"))


def recommend_by_rules(bundle: Path, folder: Path) -> bool:
    rules = ("--category", "Drama", "--not-category", "Sci-Fi", "--years", "1951-1990")
    out = command("recommend", bundle, "--user-id", first_id("users", "user_id"), *rules, "--json")
    if out is not None:
        listed = json.loads(out)["items"]
        check_items(bundle, listed)
        items = {row["item_id"]: row for row in pq.read_table(bundle / "items.parquet").to_pylist()}
        for item in (items[one["item_id"]] for one in listed):
            genres = item["genres"].split("|")
            assert "Drama" in genres
            assert "Sci-Fi" not in genres
            assert 1951 <= item["year"] <= 1990
    return out is not None


def similar(bundle: Path, folder: Path) -> bool:
    return listing("similar", bundle, "--item-id", first_id("items", "item_id"))


def fold_in(bundle: Path, folder: Path) -> bool:
    return listing("fold-in", bundle, "--rate", f"{first_id('items', 'item_id')}=4")


def profiles(bundle: Path, folder: Path) -> bool:
    return command("profiles", bundle) is not None


def score(bundle: Path, folder: Path) -> bool:
    pairs = folder / "pairs.csv"
    pairs.write_text(f"user_id,item_id\n{first_id('users', 'user_id')},{first_id('items', 'item_id')}\n0,0\n")
    out = command("score", bundle, "--input", pairs, "--output", folder / "scores", "--format", "jsonl")
    if out is None:
        return False
    rows = [json.loads(line) for line in (folder / "scores/part-00000.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert np.isfinite([row["score"] for row in rows]).all()
    return True


def all_users(bundle: Path, folder: Path) -> bool:
    out = command("recommend", bundle, "--all-users", "--output", folder / "lists", "--format", "jsonl")
    if out is None:
        return False
    for line in (folder / "lists/part-00000.jsonl").read_text().splitlines():
        row = json.loads(line)
        ratings = row.get("ratings") or [None] * len(row["scores"])
        found = zip(row["item_ids"], row["scores"], ratings, strict=True)
        check_items(bundle, [{"item_id": i, "score": s, "rating": r} for i, s, r in found])
    return True


def inspect(bundle: Path, folder: Path) -> bool:
    out = command("inspect", bundle)
    if out is None:
        return False
    # What is in order can be asked.
    Recommender.load(bundle, "cpu").check()
    return True


def report(bundle: Path, folder: Path) -> bool:
    return command("report", bundle, "-o", folder / "card.html") is not None


def fold_in_file(bundle: Path, folder: Path) -> bool:
    (folder / "own.csv").write_text(f"item_id,rating\n{first_id('items', 'item_id')},4\n")
    return listing("fold-in", bundle, "--ratings", folder / "own.csv")


def evaluate(bundle: Path, folder: Path) -> bool:
    """Of other data than the bundle's: what is checked before, and that it is refused."""
    (folder / "data.csv").write_text("user_id,item_id,rating\n10,1001,4\n20,1002,3\n")
    return command("evaluate", bundle, "--data", folder / "data.csv") is not None


def demo(bundle: Path, folder: Path) -> bool:
    from demos.gradio_app.app import build_app
    from demos.gradio_app.showcase import Showcase

    try:
        recommender = Recommender.load(bundle, "cpu")
        recommender.check()
        build_app(recommender)
        showcase = Showcase(recommender)
        user_id = str(first_id("users", "user_id"))
        showcase.recommend(user_id)
        showcase.history(user_id, newest_first=True)
    except ServeError:
        return False
    return True


def add_items(bundle: Path, folder: Path) -> bool:
    item_id = first_id("items", "item_id")
    new = "new" if isinstance(item_id, str) else 10 * item_id
    (folder / "new.csv").write_text(f"user_id,item_id,rating\n{first_id('users', 'user_id')},{new},4\n")
    return (
        command("add-items", bundle, "--ratings", folder / "new.csv", "--output", folder / "more") is not None
    )


def service(bundle: Path, folder: Path) -> bool:
    try:
        load_model(bundle, "cpu", 1)
    except ServeError:
        return False
    return True


def python(bundle: Path, folder: Path) -> bool:
    """Most of what the classes offer."""
    try:
        recommender = Recommender(open_bundle(bundle), "cpu", threads=1)
        users, items = recommender.users, recommender.items
        for index in range(1, 1 + min(3, len(users))):
            recommender.recommend(users.one_id(index))
            recommender.seen.history(index)
        recommender.score(users.one_id(1), [items[index].item_id for index in range(1, len(items) + 1)])
        items.search("a")
        items.nearest("a movie")
        chosen = Profiles.of(recommender)
        chosen.recommend(0)
    except ServeError:
        return False
    return True


ENTRANCES: dict[str, Callable[[Path, Path], bool]] = {
    "recommend": recommend,
    "recommend by rules": recommend_by_rules,
    "similar": similar,
    "fold-in": fold_in,
    "fold-in --ratings": fold_in_file,
    "profiles": profiles,
    "score": score,
    "recommend --all-users": all_users,
    "inspect": inspect,
    "report": report,
    "serve": service,
    "Python": python,
}
SLOW_ENTRANCES = {"add-items": add_items, "evaluate": evaluate, "demo": demo}
MORE = ("dot", "parts", "dot-bias-shards")
SOURCES = [*(FIXTURES / name for name in BUNDLES), *(RAW_ID_FIXTURES / name for name in MORE)]
IDS: dict[str, Any] = {}


def first_id(table: str, column: str) -> Any:
    return IDS[table]


@pytest.fixture
def mutant(tmp_path: Path) -> Callable[[int], tuple[Path, str]]:
    """A mutated copy of one of the small bundles, by the number of the try."""

    def make(number: int) -> tuple[Path, str]:
        source, folder = SOURCES[number % len(SOURCES)], tmp_path / f"{number}"
        shutil.copytree(source, folder / "bundle")
        IDS["users"] = pq.read_table(source / "users.parquet")["user_id"][0].as_py()
        IDS["items"] = pq.read_table(source / "items.parquet")["item_id"][0].as_py()
        return folder / "bundle", mutate(folder / "bundle", np.random.default_rng(number))

    return make


@pytest.mark.slow
def test_what_is_unchanged_is_answered_at_every_entrance(tmp_path: Path, mutant: Any) -> None:
    source = RAW_ID_FIXTURES / "dot"
    mutant(SOURCES.index(source))  # for its ids
    shutil.copytree(source, tmp_path / "bundle")
    outcomes = {
        name: in_child(partial(enter, tmp_path / "bundle", tmp_path))[0]
        for name, enter in (ENTRANCES | SLOW_ENTRANCES).items()
    }
    assert outcomes == dict.fromkeys(outcomes, "answered") | {"evaluate": "refused"}


def test_hostile_bundles_are_refused_or_answer_as_they_say(mutant: Any) -> None:
    counts: Counter[str] = Counter()
    for number in range(6 * len(SOURCES)):
        bundle, what = mutant(number)
        name = list(ENTRANCES)[number // len(SOURCES) % len(ENTRANCES)]
        try:
            counts["answered" if ENTRANCES[name](bundle, bundle.parent) else "refused"] += 1
        except Exception as error:
            raise AssertionError(f"{name}, mutation {number}: {what}") from error
        shutil.rmtree(bundle.parent)
    click.echo(dict(counts))
    assert counts["refused"] > 9


@pytest.mark.nightly
def test_many_hostile_bundles_through_every_entrance(mutant: Any, capsys: Any) -> None:
    """Each in a process of its own, which shows its time and memory. HOSTILE_BUNDLES says how many."""
    for module in ("demos.gradio_app.app", "export.add_items.add_items"):
        import_module(module)  # once, and not in each process

    n, first = (int(os.environ.get(f"HOSTILE_{name}", default)) for name, default in DEFAULTS.items())
    counts: Counter[str] = Counter()
    failures = []
    for number in range(first, first + n):
        bundle, what = mutant(number)
        for name, enter in (ENTRANCES | SLOW_ENTRANCES).items():
            outcome, seconds, n_bytes = in_child(partial(enter, bundle, bundle.parent))
            # What is not refused may work: `add-items` verifies a bundle.
            is_quick = outcome == "answered" or (seconds <= MOST_SECONDS and n_bytes <= MOST_BYTES)
            is_right = outcome in ("answered", "refused") and is_quick
            counts[f"{name}: {outcome if is_right else 'FAILED'}"] += 1
            if not is_right:
                failures.append(f"{number} {name} ({what}): {outcome} {seconds:.1f} s {n_bytes >> 20} MiB")
        shutil.rmtree(bundle.parent)
    with capsys.disabled():
        click.echo(
            "\n".join(["", *(f"{name}: {count}" for name, count in sorted(counts.items())), *failures])
        )
    assert not failures


def in_child(work: Callable[[], bool]) -> tuple[str, float, int]:
    """Outcome, seconds of CPU, and peak memory of a function in a forked process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.alarm(60)
        import traceback

        try:
            text = "answered" if work() else "refused"
        except BaseException:  # noqa: BLE001
            text = traceback.format_exc()[-3000:]
        os.write(writing, text.encode(errors="replace"))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        outcome = pipe.read().decode()
    _, status, used = os.wait4(child, 0)
    if status:
        outcome = f"{outcome} ended with the status {status}"
    return outcome, used.ru_utime + used.ru_stime, used.ru_maxrss << 10
