"""What programs get from the page's server: the same answers, by stable names; and the command itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import urllib.request
from contextlib import suppress
from functools import partial
from urllib.error import URLError

import msgspec
import pytest
from fixture_bundles import FIXTURES
from gradio_client import Client
from gradio_client.exceptions import AppError
from patience import PATIENCE, wait_until
from ports import free_port

from serve.runtime.profiles import Profiles

from .conftest import COMMAND, next_line


def client_of(url: str) -> Client:
    return Client(url, verbose=False, analytics_enabled=False, httpx_kwargs={"timeout": PATIENCE})


@pytest.fixture(scope="module")
def client(pages):
    client = client_of(pages["dot-bias"].url)
    yield client
    client.close()


def test_the_names_are_stable(client) -> None:
    names = set(client.view_api(return_format="dict", print_info=False)["named_endpoints"])
    assert names == {
        "/find_users",
        "/search_items",
        "/recommend",
        "/history",
        "/fold_in",
        "/answer_questions",
        "/similar_items",
        "/model_card",
    }


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


@pytest.mark.parametrize(
    ("name", "text"),
    [("find_users", "250"), ("history", "250"), ("search_items", "1013"), ("similar_items", "1013")],
)
def test_an_integer_stands_for_its_text(client, name, text) -> None:
    def answer(value):
        found = client.predict(value, api_name=f"/{name}")
        return found["items"] if name == "similar_items" else found

    assert answer(int(text)) == answer(text) != []


def test_a_user_may_be_named_by_an_integer(client) -> None:
    named = [client.predict(user_id, api_name="/recommend") for user_id in (250, "250")]
    assert named[0]["known"]
    assert ids(named[0]) == ids(named[1])


@pytest.mark.parametrize(
    ("arguments", "name", "said"),
    [
        (("250", 0), "/recommend", "must lie in 1 to"),
        (("250", 10**9), "/recommend", "must lie in 1 to"),
        (("250", 5, True, "<b>"), "/recommend", "no item has the genre"),
        (({"1013": 99},), "/fold_in", "ratings must lie in"),
        (({"nothing": 3},), "/fold_in", "item_id must be"),
        (({"99999": 3},), "/fold_in", "no item has the id"),
        (({"1001": "like"},), "/answer_questions", "no question is about"),
        (("77",), "/similar_items", "no item has the id"),
        ((250.5,), "/recommend", r"user_id can't be 250\.5: Expected `int \| str`"),
        (("250", "5"), "/recommend", "top_k can't be '5': Expected `int`"),
        (("250", 5, "yes"), "/recommend", "exclude_seen can't be 'yes': Expected `bool`"),
        (("250", 5, True, ["Drama"]), "/recommend", "genre can't be"),
        ((None,), "/find_users", "query can't be None"),
        (({},), "/history", "user_id can't be"),
        (([1013],), "/fold_in", "ratings can't be"),
        (({"1013": None},), "/fold_in", "ratings can't be {'1013': None}: Expected `float`"),
        (([],), "/answer_questions", "answers can't be"),
        (({"1013": "good"},), "/answer_questions", "answers can't be"),
    ],
)
def test_what_was_wrong_is_told(client, arguments, name, said) -> None:
    with pytest.raises(AppError, match=said):
        client.predict(*arguments, api_name=name)


def test_every_answer_keeps_the_browser_to_this_host(pages) -> None:
    with urllib.request.urlopen(pages["dot-bias"].url + "/") as answer:
        policy, body = answer.headers["content-security-policy"], answer.read()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["connect-src"] == "'self'"
    assert not [source for rule in rules.values() for source in rule.split() if "//" in source]
    assert b"fonts.googleapis" not in body


def test_the_config_holds_no_analytics_and_no_share_link(pages) -> None:
    with urllib.request.urlopen(pages["dot-bias"].url + "/config") as answer:
        config = msgspec.json.decode(answer.read())
    assert config["analytics_enabled"] is False
    assert not config.get("share_url")


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_it_listens_on_ipv6_too() -> None:
    arguments = ["demo", str(FIXTURES / "dot"), "--host", "::1", "--port", "0"]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, bufsize=0) as running:
        if not has_ipv6():
            assert running.wait(PATIENCE) == 2
            return
        try:
            url = next_line(running).removesuffix(" (Ctrl-C stops)")
            assert url.startswith("http://[::1]:")
            client = client_of(url)
            assert client.predict("250", api_name="/recommend")["known"]
            client.close()
        finally:
            running.terminate()


@pytest.mark.parametrize("stdout", ["left", "none"])
def test_it_is_shown_though_nobody_reads_where(stdout) -> None:
    port = free_port()
    reads, writes = os.pipe()
    os.close(reads)
    before = partial(os.close, 1) if stdout == "none" else None
    arguments = ["demo", str(FIXTURES / "dot"), "--port", str(port)]
    with subprocess.Popen([*COMMAND, *arguments], stdout=writes, preexec_fn=before) as running:
        os.close(writes)

        def answers() -> bool:
            assert running.poll() is None
            with suppress(URLError):
                return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE).status == 200
            return False

        try:
            wait_until(answers)
            running.send_signal(signal.SIGINT)
            assert running.wait(PATIENCE) == 0
        finally:
            running.kill()


@pytest.mark.parametrize("place", ["no bundle", "port", "host", "name", "no name"])
def test_what_cannot_be_shown_is_said_in_one_line(tmp_path, place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bundle = tmp_path if place == "no bundle" else FIXTURES / "dot"
        host = {"host": "192.0.2.1", "name": "no.such.host.invalid", "no name": "a..b"}.get(
            place, "127.0.0.1"
        )
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [*COMMAND, "demo", str(bundle), "--host", host, "--port", port],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    why = "Address already in use" if place == "port" else "it is no address of this machine"
    said = "is not a bundle" if place == "no bundle" else f"can't listen on {host}, port {port}: {why}"
    assert ended.returncode == (1 if place == "no bundle" else 2)
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
