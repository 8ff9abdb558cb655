"""The page's server for programs: the answers of the recommender under stable names; and the command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import ExitStack, suppress
from functools import partial
from urllib.error import URLError

import pytest
from fixture_bundles import FIXTURES
from gradio_client import Client
from gradio_client.exceptions import AppError
from patience import PATIENCE, wait_until
from ports import free_port

from demos.commands.demo import N_PORTS, PORT
from demos.report.comparison import Pair, agreement, verdict
from serve import Profiles, Variety

from .conftest import next_line


@pytest.fixture(scope="module")
def client(pages):
    options = {"verbose": False, "analytics_enabled": False, "httpx_kwargs": {"timeout": PATIENCE}}
    client = Client(pages["dot-bias"].url, **options)
    yield client
    client.close()


def test_the_names_are_stable(client) -> None:
    names = set(client.view_api(return_format="dict", print_info=False)["named_endpoints"])
    wanted = "find_users search_items recommend history fold_in answer_questions similar_items model_card"
    assert names == {f"/{name}" for name in wanted.split()}


def ids(answer) -> list[int]:
    return [item["item_id"] for item in answer["items"]]


def test_answers_are_those_of_the_recommender(client, pages) -> None:
    recommender = pages["dot-bias"].recommender
    assert client.predict("25", api_name="/find_users") == ["250"]
    assert client.predict("movie 13,", api_name="/search_items")[0]["item_id"] == 1013

    answer = client.predict("250", 5, api_name="/recommend")
    wanted = recommender.recommend(250, 5)
    assert ids(answer) == wanted.item_ids.tolist()
    assert [item["score"] for item in answer["items"]] == pytest.approx(wanted.scores.tolist(), abs=1e-6)
    assert [item["rating"] for item in answer["items"]] == pytest.approx(wanted.ratings.tolist(), abs=1e-6)
    assert answer["known"]
    assert answer["device"] == "cpu"
    assert not client.predict("nobody", api_name="/recommend")["known"]
    every = client.predict("250", 10, False, "Drama", api_name="/recommend")
    assert all(item["genres"] == ["Drama"] for item in every["items"])
    assert len(client.predict("250", api_name="/history")) == len(recommender.seen.of_user(25))

    assert ids(client.predict({"1013": 5, "1020": 1.5}, api_name="/fold_in")) == (
        recommender.fold_in([1013, 1020], [5.0, 1.5]).item_ids.tolist()
    )
    assert not client.predict({}, api_name="/fold_in")["known"]
    similar = client.predict("1013", 4, api_name="/similar_items")
    assert ids(similar) == recommender.similar_items(1013, 4).item_ids.tolist()

    profiles = Profiles.of(recommender)
    asked = profiles.questions[0].item_index
    answer = client.predict({str(recommender.items[asked].item_id): "like"}, api_name="/answer_questions")
    assert answer["profile"] == profiles.match({asked: "like"})
    assert client.predict(api_name="/model_card")["version"] == recommender.bundle.version


def test_an_integer_stands_for_its_text(client) -> None:
    for name, text in (("find_users", "250"), ("history", "250"), ("search_items", "1013")):
        assert (
            client.predict(int(text), api_name=f"/{name}") == client.predict(text, api_name=f"/{name}") != []
        )
    for name, text in (("recommend", "250"), ("similar_items", "1013")):
        found = [ids(client.predict(value, api_name=f"/{name}")) for value in (int(text), text)]
        assert found[0] == found[1] != []


def test_variety_and_reasons(client, pages) -> None:
    recommender = pages["dot-bias"].recommender
    variety = Variety(diversity=0.6, surprise=-0.25, max_per_category=2)
    given = [0.6, -0.25, 2]
    assert ids(client.predict("250", 5, True, "", *given, api_name="/recommend")) == (
        recommender.recommend(250, 5, variety=variety).item_ids.tolist()
    )
    profiles = Profiles.of(recommender)
    asked = profiles.questions[0].item_index
    place, index = profiles.match({asked: "like"}), [asked]
    answer = client.predict(
        {str(recommender.items[asked].item_id): "like"}, 5, *given, api_name="/answer_questions"
    )
    wanted = profiles.recommend(place, 5, exclude_item_indices=index, variety=variety)
    assert ids(answer) == wanted.item_ids.tolist()
    answer = client.predict({"1013": 5, "1020": 1.5}, 5, *given, api_name="/fold_in")
    assert ids(answer) == recommender.fold_in([1013, 1020], [5.0, 1.5], 5, variety=variety).item_ids.tolist()
    assert {item["reasons"] for item in answer["items"]} == {None}  # its bundle has no explain.onnx
    options = {"verbose": False, "analytics_enabled": False, "httpx_kwargs": {"timeout": PATIENCE}}
    explained = Client(pages["pair"].url, **options)
    answer = explained.predict({"1013": 5, "1020": 1.5}, 3, api_name="/fold_in")
    wanted = pages["pair"].recommender.fold_in([1013, 1020], [5.0, 1.5], 3, reasons=True)
    for place, item in enumerate(answer["items"]):
        assert item["reasons"] == wanted.reasons.described(place)
    explained.close()


def test_two_bundles_are_compared(pages) -> None:
    options = {"verbose": False, "analytics_enabled": False, "httpx_kwargs": {"timeout": PATIENCE}}
    a, b = pages["pair"].recommender, *pages["pair"].others
    two = Client(pages["pair"].url, **options)
    for user_id in ("250", "nobody"):
        found = two.predict(user_id, 6, api_name="/compare")
        one, index = (user_id == "250") * 250, a.users.lookup_text(user_id)
        seen = set(a.items.ids.ids(a.seen.of_user(index)).tolist()) if one else set()
        assert found["a"]["known"] == found["b"]["known"] == bool(one)
        both = [item for item in ids(found["a"]) if item in ids(found["b"])]
        assert found["in_both"] == both
        assert len(ids(found["a"])) == len(ids(found["b"])) == 6
        assert not seen & {*ids(found["a"]), *ids(found["b"])}
    with pytest.raises(AppError, match="must lie in 1 to"):
        two.predict("250", 0, api_name="/compare")
    models = two.predict(api_name="/compare_models")
    assert models["verdict"] == verdict(Pair(a, b))
    assert set(models["metrics"]["rmse"]) == {"a", "b", "better"}
    assert models["agreement"] == {
        "k": agreement(Pair(a, b)).k,
        "n_users": 30,
        "mean_in_both": pytest.approx(agreement(Pair(a, b)).mean),
    }
    two.close()


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("recommend", ["250", 0], "must lie in 1 to"),
        ("recommend", ["250", 10**9], "must lie in 1 to"),
        ("recommend", ["250", 5, True, "<b>"], "no item has the genre"),
        ("recommend", ["250", 5, True, "", 1.5], "diversity must be a number from 0 to 1, got 1.5"),
        ("recommend", ["250", 5, True, "", 0, 1.01], "surprise must be a number from -1 to 1"),
        ("recommend", ["250", 5, True, "", 0, 0, 0], "max_per_category must be an integer from 1 on"),
        ("recommend", ["250", 5, True, "", "much"], "diversity can't be 'much': Expected `float`"),
        ("fold_in", [{"1013": 5}, 5, -1], "diversity must be a number from 0 to 1, got -1"),
        ("fold_in", [{}, 5, 0, -2], "surprise must be a number from -1 to 1, got -2"),
        ("fold_in", [{"1013": 5}, 5, 0, 0, 1.5], r"max_per_category can't be 1\.5"),
        ("fold_in", [{"1013": 99}], "ratings must lie in"),
        ("fold_in", [{"nothing": 3}], "item_id must be"),
        ("fold_in", [{"10_13": 3}], "item_id must be"),
        ("fold_in", [{"1013": 3, "01013": 5}], "named more than once in 1013, 01013"),
        ("fold_in", [{"99999": 3}], "no item has the id"),
        ("answer_questions", [{"1001": "like"}], "no question is about"),
        ("answer_questions", [{}, 5, 2], "diversity must be a number from 0 to 1, got 2"),
        ("similar_items", ["77"], "no item has the id"),
        ("recommend", [250.5], r"user_id can't be 250\.5: Expected `int \| str`"),
        ("recommend", ["250", "5"], "top_k can't be '5': Expected `int`"),
        ("fold_in", [{"1013": None}], "ratings can't be {'1013': None}: Expected `float`"),
        ("answer_questions", [{"1013": "good"}], "answers can't be"),
    ],
)
def test_the_caller_is_told_what_is_wrong(client, name, arguments, said) -> None:
    with pytest.raises(AppError, match=said):
        client.predict(*arguments, api_name=f"/{name}")


def test_the_page_requests_no_other_host(pages) -> None:
    with urllib.request.urlopen(pages["dot-bias"].url) as answer:
        policy, body = answer.headers["content-security-policy"], answer.read()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["connect-src"] == "'self'"
    assert "//" not in policy
    assert b"fonts.googleapis" not in body
    assert b'"analytics_enabled":false' in body.replace(b": ", b":")


COMMAND = [sys.executable, "-m", "recsys", "demo"]


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_the_command_prints_its_address_answers_and_ends_with_ctrl_c(tmp_path) -> None:
    host = "::1" if has_ipv6() else "127.0.0.1"
    line = [*COMMAND, FIXTURES / "dot", "--host", host, "--port", "0", "--allow-host", "recommender.example"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(line, stdout=subprocess.PIPE, bufsize=0, env=environment) as running:
        try:
            url = next_line(running).removesuffix(" (Ctrl-C stops)")
            request = urllib.request.Request(url, headers={"Host": "recommender.example"})
            assert urllib.request.urlopen(request, timeout=PATIENCE).status == 200
            running.send_signal(signal.SIGINT)
            assert running.wait(PATIENCE) == 0
        finally:
            running.kill()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_default_port_makes_way_and_a_browser_is_opened(tmp_path) -> None:
    """Another program has the default port, or this test takes it; the page gets the next one."""
    opener, seen = tmp_path / "browser", tmp_path / "seen"
    opener.write_text(f'#!/bin/sh\nprintf %s "$1" > {seen}.part && mv {seen}.part {seen}\n')
    opener.chmod(0o755)
    environment = {**os.environ, "BROWSER": f"{opener} %s"}
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", PORT)))
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0, "env": environment}
        running = stack.enter_context(subprocess.Popen([*COMMAND, FIXTURES / "dot", "--open"], **options))
        try:
            url = next_line(running).removesuffix(" (Ctrl-C stops)")
            assert PORT < int(url.rpartition(":")[2]) < PORT + N_PORTS
            wait_until(seen.exists)
            assert seen.read_text() == url
            running.terminate()
            assert running.wait(PATIENCE) == 0
            assert running.stderr.read().decode().startswith(f"Loading {FIXTURES / 'dot'} …")
        finally:
            running.kill()


@pytest.mark.slow
def test_the_command_needs_no_standard_output() -> None:
    port = free_port()
    line = [*COMMAND, FIXTURES / "dot", "--port", str(port)]
    with subprocess.Popen(line, preexec_fn=partial(os.close, 1)) as running:

        def answers() -> bool:
            assert running.poll() is None
            with suppress(URLError):
                return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE).status == 200
            return False

        try:
            wait_until(answers)
            running.terminate()
            assert running.wait(PATIENCE) == 0
        finally:
            running.kill()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("bundle", "is not a bundle"),
        ("port", "Address already in use"),
        pytest.param("other", "is not a bundle", marks=pytest.mark.slow),
        ("same", "are the same bundle: name two that differ"),
        pytest.param("foreign", "have no user in common", marks=pytest.mark.slow),
        pytest.param("missing", "does not exist", marks=pytest.mark.slow),
    ],
)
def test_a_page_that_cannot_start_says_why_in_one_line(tmp_path, wrong, said) -> None:
    bundles = {
        "bundle": [tmp_path],
        "port": [FIXTURES / "dot"],
        "other": [FIXTURES / "dot", tmp_path],
        "same": [FIXTURES / "dot", FIXTURES / "dot"],
        "foreign": [FIXTURES / "dot", FIXTURES / "dot-bias-string-ids"],
        "missing": [FIXTURES / "dot", tmp_path / "none"],
    }
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1]) if wrong == "port" else "0"
        line = [*COMMAND, *bundles[wrong], "--port", port]
        ended = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
