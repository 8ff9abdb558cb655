"""The Node scripts in a real Node; they need `npm ci --prefix demos/node`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import runtimes_table
from fixture_bundles import FIXTURES
from patience import PATIENCE
from runtimes_table import BUNDLES, GRAPHS, WITH_SHARDS

from serve import Recommender, Rules, Variety

DEMO = Path(__file__).parents[3] / "demos" / "node"

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node (version 20 or newer)"),
    pytest.mark.skipif(
        not (DEMO / "node_modules").exists(), reason="run `npm ci --prefix demos/node` for what Node needs"
    ),
]


def node(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", DEMO / script, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE
    )


@pytest.fixture(scope="module")
def verdicts() -> dict[str, dict[str, dict]]:
    """model -> graph -> verdict of conformance.mjs."""
    found = {}
    for model, path in WITH_SHARDS.items():
        done = node("conformance.mjs", path, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        found[model] = {verdict["graph"]: verdict for verdict in json.loads(done.stdout)}
    return found


@pytest.mark.parametrize("graph", GRAPHS)
def test_node_reproduces_the_conformance_cases(verdicts, graph) -> None:
    runtimes_table.check("ONNX Runtime, Node", graph, lambda model: verdicts[model][graph])


@pytest.fixture
def cases_of(tmp_path):
    """A copy of a bundle, its conformance cases, and a function that writes them."""

    def get(model):
        copy = Path(shutil.copytree(BUNDLES[model], tmp_path / "bundle"))
        path = copy / "conformance.json"
        return copy, json.loads(path.read_text()), lambda document: path.write_text(json.dumps(document))

    return get


@pytest.mark.parametrize(
    ("graph", "name", "spoil"),
    [
        ("score", "score", lambda data: [data[0] + 1e-3, *data[1:]]),
        ("recommend", "top_item_indices", lambda data: [data[1], data[0], *data[2:]]),
        ("recommend_by_id", "known", lambda data: [not data[0], *data[1:]]),
        ("recommend_by_id", "top_titles", lambda data: ["", *data[1:]]),
    ],
)
def test_a_wrong_output_is_reported(cases_of, graph, name, spoil) -> None:
    copy, document, write = cases_of("dot-bias, string ids")
    output = document["graphs"][graph][0]["outputs"][name]
    output["data"] = spoil(output["data"])
    write(document)
    done = node("conformance.mjs", copy, "--json")
    assert done.returncode == 1
    problems = {verdict["graph"]: verdict["problem"] for verdict in json.loads(done.stdout)}
    assert name in problems.pop(graph)
    assert set(problems.values()) == {None}


def test_a_graph_without_conformance_cases_is_reported(cases_of) -> None:
    copy, document, write = cases_of("dot")
    del document["graphs"]["score"]
    write(document)
    done = node("conformance.mjs", copy)
    assert done.returncode == 0, done.stderr
    assert "score: not compared: the bundle has no conformance cases for it\n" in done.stdout
    assert "recommend: equal, 2 cases" in done.stdout
    write({**document, "graphs": {}})
    done = node("conformance.mjs", copy)
    assert (done.returncode, done.stderr) == (1, "Error: nothing was compared.\n")


@pytest.mark.parametrize("model", BUNDLES)
def test_the_script_recommends_what_the_recommender_does(model) -> None:
    served = Recommender.load(BUNDLES[model], "cpu")
    user_id = served.users.one_id(4)
    done = node("recommend.mjs", BUNDLES[model], str(user_id), "12")
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    wanted = served.recommend(user_id, 12)
    if wanted.ratings is None:
        np.testing.assert_allclose([float(score) for score, _, _ in rows], wanted.scores, atol=1e-5)
    else:
        assert all(stars.endswith(" ★") for stars, _, _ in rows)
        np.testing.assert_allclose([float(stars[:-2]) for stars, _, _ in rows], wanted.ratings, atol=0.0051)
    assert [item_id for _, item_id, _ in rows] == [str(item_id) for item_id in wanted.item_ids]
    assert [title for _, _, title in rows] == [served.items.label(index) for index in wanted.item_indices]


def test_an_unknown_user_gets_the_average_users_list_and_a_warning() -> None:
    served = Recommender.load(BUNDLES["mlp"], "cpu")
    done = node("recommend.mjs", BUNDLES["mlp"], "99999", "3")
    assert "average user" in done.stderr
    found = [line.split("\t")[1] for line in done.stdout.splitlines()]
    assert found == [str(item_id) for item_id in served.recommend(99999, 3).item_ids]


FILTERED = BUNDLES["parts"]


@pytest.mark.parametrize(
    ("options", "rules"),
    [
        (["--category", "Drama", "--category", "Comedy"], Rules(categories=["Drama", "Comedy"])),
        (["--category", "drama"], Rules(categories=["drama"])),
        (["--not-category", "Drama", "--min-ratings", "2"], Rules(not_categories=["Drama"], min_ratings=2)),
        (["--years", "1990-1999"], Rules(min_year=1990, max_year=1999)),
        (["--deny", "1007", "--deny", "1020"], Rules(deny=[1007, 1020])),
        (
            ["--allow", "1003", "--allow", "1012", "--allow", "1030", "--years", "1960-"],
            Rules(allow=[1003, 1012, 1030], min_year=1960),
        ),
        (["--at-least", "price=5.5", "--at-most", "price=22"], Rules(numbers={"price": (5.5, 22)})),
        (
            ["--at-least", "price=-1e35", "--max-ratings", "5"],  # not those without a price
            Rules(numbers={"price": (-1e35, None)}, max_ratings=5),
        ),
        (["--years=-1995", "--max-ratings", "5"], Rules(max_year=1995, max_ratings=5)),
    ],
)
def test_rules_are_those_of_the_recommender(options, rules) -> None:
    served = Recommender.load(FILTERED, "cpu")
    user_id = served.users.one_id(4)
    wanted = served.recommend(user_id, 12, rules=rules)
    done = node("recommend.mjs", FILTERED, str(user_id), "12", *options)
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == [
        str(item_id) for item_id, index in zip(wanted.item_ids, wanted.item_indices, strict=True) if index
    ]
    assert list(wanted.item_ids) != list(served.recommend(user_id, 12).item_ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--category", "dramas"], 'no category "dramas"; there are '),
        (["--category", "drama", "--not-category", "Drama"], '"Drama" is both wanted and unwanted'),
        (["--years", "1999-1990"], "the least year is 1999, more than the largest, 1990"),
        (["--at-least", "price=3", "--at-most", "price=2.5"], "least price is 3, more than the largest, 2.5"),
        (["--at-least", "year=1990"], 'no number "year" for --at-least; there are price'),
        (["--min-ratings", "100000"], "no item is left"),
        (["--years", "nineties"], '"nineties" is no range of years'),
        (["--years", "-"], '"-" is no range of years'),
        # Such as of an empty variable of a shell.
        (["--years", ""], '"" is no range of years'),
        (["--max-ratings", ""], '"" is no whole number'),
        (["--not-category", ""], 'no category ""'),
        (["--at-least", "price=5", "--at-least", "price=9"], 'at-least names "price" twice'),
        (["--deny", "9"], 'no item has the id "9"'),
        (["--at-least", "price=0x1"], '"price=0x1" is not a name and a number'),
        (["--at-least", "cost=1"], 'no number "cost" for --at-least; there are price'),
        (["--min-ratings", "1e1"], '"1e1" is no whole number'),
    ],
)
def test_rules_that_are_refused(options, message) -> None:
    done = node("recommend.mjs", FILTERED, "40", "3", *options)
    assert done.returncode == 1
    assert message in done.stderr


def test_rules_of_items_without_categories() -> None:
    """The graph has one column of categories in any case."""
    script = f"""
        import {{ rulesOf }} from {json.dumps((DEMO / "rules.mjs").as_uri())}
        const none = {{ allow: [], category: [], 'not-category': [], 'at-least': [], 'at-most': [] }}
        class Tensor {{ constructor(type, data, dims) {{ this.dims = dims }} }}
        const columns = {{ categories: [], numbers: ['n_ratings'] }}
        const found = rulesOf({{ ...none, 'min-ratings': '2' }}, columns, [], Tensor)
        console.log(found.wanted_categories.dims.join(), found.lowest_numbers.dims.join())
    """
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["1,1", "1,1"], done.stderr


def test_rules_need_their_graph(tmp_path) -> None:
    plain = Path(shutil.copytree(FILTERED, tmp_path / "bundle"))
    manifest = json.loads((plain / "manifest.json").read_text())
    (plain / "manifest.json").write_text(json.dumps(manifest | {"item_rules": None}))
    done = node("recommend.mjs", plain, "40", "3", "--min-ratings", "2")
    assert (done.returncode, "recsys export --filtered" in done.stderr) == (1, True)


VARIETIES = [
    (["--diversity", "0.6"], Variety(diversity=0.6)),
    (["--surprise=-.5"], Variety(surprise=-0.5)),
    (["--max-per-category", "1"], Variety(max_per_category=1)),
    (
        ["--diversity", "0.3", "--surprise", "0.4", "--max-per-category", "2"],
        Variety(diversity=0.3, surprise=0.4, max_per_category=2),
    ),
]


@pytest.mark.parametrize(
    ("model", "options", "variety"),
    [("parts", *one) for one in VARIETIES] + [(model, *VARIETIES[-1]) for model in ("mlp", "dot-int4")],
)
def test_variety_is_that_of_the_recommender(model, options, variety) -> None:
    served = Recommender.load(BUNDLES[model], "cpu")
    user_id = served.users.one_id(4)
    wanted = served.recommend(user_id, 12, variety=variety)
    done = node("recommend.mjs", BUNDLES[model], str(user_id), "12", *options)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [item_id for _, item_id, _ in rows] == [str(item_id) for item_id in wanted.item_ids]
    shown = wanted.scores if wanted.ratings is None else wanted.ratings
    np.testing.assert_allclose([float(text.split()[0]) for text, _, _ in rows], shown, atol=0.0051)
    assert list(wanted.item_ids) != list(served.recommend(user_id, 12).item_ids)


def test_variety_of_a_list_by_rules() -> None:
    served = Recommender.load(FILTERED, "cpu")
    user_id, options = served.users.one_id(4), ["--category", "Drama", *VARIETIES[0][0]]
    wanted = served.recommend(user_id, 50, rules=Rules(categories=["Drama"]), variety=VARIETIES[0][1])
    done = node("recommend.mjs", FILTERED, str(user_id), "50", *options)
    assert done.returncode == 0, done.stderr
    found = [line.split("\t")[1] for line in done.stdout.splitlines()]
    assert found == [str(item_id) for item_id in wanted.item_ids[: wanted.count]]
    assert "at most" not in done.stderr
    done = node("recommend.mjs", FILTERED, str(user_id), "51", *options)
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == found
    assert "A varied list has at most 50 items." in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--diversity", "1.1"], 'diversity must be a number from 0 to 1, got "1.1"'),
        (["--diversity=-0.1"], "diversity must be"),
        (["--diversity", "nan"], "diversity must be"),
        (["--diversity="], "diversity must be"),
        (["--surprise", "-2"], "argument is ambiguous"),
        (["--surprise=-2"], 'surprise must be a number from -1 to 1, got "-2"'),
        (["--max-per-category", "0"], 'max-per-category must be a whole number from 1 on, got "0"'),
        (["--max-per-category", "1.5"], "max-per-category must be"),
        (["--max-per-category", "2147483648"], "max-per-category must be"),
    ],
)
def test_variety_that_is_refused(options, message) -> None:
    done = node("recommend.mjs", FILTERED, "40", "3", *options)
    assert done.returncode == 1
    assert message in done.stderr


def test_variety_needs_its_graph_and_weights_of_0_do_not() -> None:
    plain = FIXTURES / "parts"
    done = node("recommend.mjs", plain, "40", "3", "--diversity", "0.5")
    assert (done.returncode, "recsys export --variety" in done.stderr) == (1, True)
    zeros = node("recommend.mjs", plain, "40", "3", "--diversity", "0", "--surprise", "0.0")
    assert (zeros.returncode, zeros.stdout) == (0, node("recommend.mjs", plain, "40", "3").stdout)


def test_reasons_are_those_of_the_recommender() -> None:
    served = Recommender.load(FILTERED, "cpu")
    user_id = served.users.one_id(4)
    wanted = served.recommend(user_id, 8, reasons=True)
    assert wanted.reasons is not None
    done = node("recommend.mjs", FILTERED, str(user_id), "8", "--explain")
    assert done.returncode == 0, done.stderr
    lines = []
    for item_id, reasons in zip(wanted.item_ids, wanted.reasons, strict=True):
        told = "; ".join(f"{one.title} {one.rating:g}" for one in reasons)
        lines += [str(item_id)] + ([f"because you rated {told}"] if reasons else [])
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == lines
    assert len(lines) > 8


def test_where_there_are_no_reasons(tmp_path) -> None:
    done = node("recommend.mjs", FILTERED, "nobody", "3", "--explain")  # who has rated nothing
    assert (done.returncode, "because" in done.stdout) == (0, False)
    done = node("recommend.mjs", BUNDLES["mlp"], "40", "3", "--explain")
    assert (done.returncode, "gives no reasons: " in done.stderr) == (1, True)
    plain = Path(shutil.copytree(FILTERED, tmp_path / "bundle"))
    manifest = json.loads((plain / "manifest.json").read_text())
    del manifest["graphs"]["explain"]
    (plain / "manifest.json").write_text(json.dumps(manifest))
    done = node("recommend.mjs", plain, "40", "3", "--explain")
    assert (done.returncode, "`recsys export --explain`" in done.stderr) == (1, True)


@pytest.mark.parametrize("script", ["recommend.mjs", "conformance.mjs"])
def test_errors_are_one_line(script, tmp_path) -> None:
    usage = node(script)
    assert usage.returncode == 2
    assert usage.stderr.startswith("Usage: ")
    if script == "recommend.mjs":
        assert node(script, BUNDLES["dot"], "40", "1e1").returncode == 2
    missing = node(script, tmp_path / "nothing", "1")
    assert missing.returncode == 1
    assert re.fullmatch(r"Error: .*nothing.*\n", missing.stderr)


def test_the_script_is_short_and_the_page_shows_it_whole() -> None:
    script = (DEMO / "recommend.mjs").read_text(encoding="utf-8")
    assert len(script.splitlines()) <= 60
    assert f"```js\n{script}```" in runtimes_table.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("script", ["recommend.mjs", "conformance.mjs"])
def test_the_scripts_write_no_telemetry(script, tmp_path) -> None:
    environment = os.environ | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    line = ["node", DEMO / script, BUNDLES["dot"], *(["40"] if script == "recommend.mjs" else [])]
    subprocess.run(line, env=environment, check=True, timeout=PATIENCE, stdout=subprocess.DEVNULL)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["node", "browser"])
def test_versions_are_pinned_and_the_lock_names_no_registry(folder) -> None:
    home = DEMO.with_name(folder)
    wanted = json.loads((home / "package.json").read_text())["dependencies"]
    lock = json.loads((home / "package-lock.json").read_text())
    for name, version in wanted.items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
    assert all("integrity" in package for name, package in lock["packages"].items() if name)
