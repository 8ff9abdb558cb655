"""The page's server gives no file away, whatever a request names, and answers only its own pages."""

from __future__ import annotations

import gzip
import json
import socket
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest
from patience import PATIENCE


class Answer(NamedTuple):
    status: int
    code: str
    """Of the error; "" where there is none."""
    cors: list[str]
    body: bytes


def ask(url: str, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    """Send a request as it is written: nothing is normalised or added but what HTTP needs."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host="Host" in named)
        if body is not None and "Content-Length" not in named:
            named["Content-Length"] = str(len(body))
        for name, value in {"Content-Type": "application/json", **named}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        cors = [name for name, _ in response.getheaders() if name.lower().startswith("access-control")]
        found = response.read()
        code = json.loads(found)["error"]["code"] if found.startswith(b'{"error":{"id"') else ""
        return Answer(response.status, code, cors, found)
    finally:
        connection.close()


def create_connection(url: str) -> socket.socket:
    parsed = urlsplit(url)
    return socket.create_connection((parsed.hostname, parsed.port), timeout=PATIENCE)


def functions(url: str, *, that_read: bool = False) -> list[tuple[int, str, int]]:
    """Id, name and number of inputs of every function that the page offers.

    `that_read`: only those that read what a client sends. States of the session are not.
    """
    config = json.loads(ask(url, "GET", "/config").body)
    found: list[dict[str, Any]] = config["dependencies"]
    assert len(found) >= 18
    states = {one["id"] for one in config["components"] if one["type"] == "state"}
    chosen = [one for one in found if not that_read or {*one["inputs"]} - states]
    return [(one["id"], one["api_name"], len(one["inputs"])) for one in chosen]


@pytest.fixture
def secrets(tmp_path, pages) -> list[str]:
    """Files that no client may read, one of them in the server's temporary folder, and a URL."""
    temp = pages["dot-bias"].temp
    paths = [tmp_path / "secret.txt", tmp_path / "secret.svg", temp / "secret.txt"]
    for path in paths:
        path.write_text("the secret of this machine")
    yield [*map(str, paths), str(Path("pyproject.toml").resolve()), "http://192.0.2.1/secret.txt"]
    assert list(temp.iterdir()) == [paths[-1]]  # nothing was copied
    paths[-1].unlink()


def hostile(path: str) -> list[Any]:
    """Values that name a file, as Gradio's own components send them and nested."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    stream = {**file, "url": path, "is_stream": True}
    return [file, stream, {"a": [[{"b": {"c": file}}]]}, [file], {"path": file}]


def test_no_function_takes_a_file_by_any_route(pages, secrets) -> None:
    url = pages["dot-bias"].url
    values = [*hostile(secrets[0]), *(hostile(path)[0] for path in secrets[1:])]
    for index, name, n in functions(url):
        routes = ["run/predict", "api/predict/", f"run/{name}", f"api/{name}", "queue/join", f"call/{name}"]
        for value in values:
            ends = {"fn_index": index, "session_hash": "a"}
            bodies = [
                {"data": [None] * n, "event_data": value, **ends},
                {"data": [value] * max(1, n), **ends},
            ]
            calls = [(route, body) for route in routes for body in bodies]
            for route, body in [*calls, (f"call/v2/{name}", {"query": value})]:
                answer = ask(url, "POST", f"/gradio_api/{route}", json.dumps(body).encode())
                assert (answer.status, answer.code) == (422, "no_files"), (route, body)


@pytest.mark.parametrize("value", [None, pytest.param({"a": [1]}, marks=pytest.mark.slow), -1, "abc"])
def test_nonsense_fails_in_no_function_of_ours(pages, value) -> None:
    """Gradio's own components refuse some of it, and log that."""
    page = pages["pair"]
    before = page.log.stat().st_size
    for index, _, n in functions(page.url):
        for event in (None, value, {"act": "why", "item": "5"}):
            body = {"data": [value] * n, "fn_index": index, "session_hash": "a", "event_data": event}
            answer = ask(page.url, "POST", "/gradio_api/run/predict", json.dumps(body).encode())
            assert answer.status in (200, 500)
    assert "/demos/gradio_app/" not in page.log.read_text()[before:]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-be"])
def test_a_file_is_refused_in_every_encoding_and_content_type(pages, secrets, encoding) -> None:
    file = f'{{"\\u0070ath": "{secrets[0]}", "m\\u0065ta": {{"_type": "gradio.FileData"}}}}'
    body = f'{{"data": [{file}], "fn_index": 0, "session_hash": "a"}}'.encode(encoding)
    for kind in ("application/json", "application/json; charset=utf-16", "text/plain", ""):
        answer = ask(pages["dot-bias"].url, "POST", "/gradio_api/run/predict", body, Content_Type=kind)
        assert (answer.status, answer.code) == (422, "no_files")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"\xff\xfe\xff",
        b"{'a': 1}",
        b'{"data": ["\\ud800"]}',
        b'{"\\ud800": 1}',
        b"9" * 5000,
        b'{"data": ["25"], "data": ["26"]}',
    ],
)
def test_a_body_that_is_not_json_is_refused(pages, body) -> None:
    answer = ask(pages["dot-bias"].url, "POST", "/gradio_api/queue/join", body)
    assert (answer.status, answer.code) == (400, "bad_json")


READS = "file= file/ proxy= proxy=http://127.0.0.1 custom_component/a/client/b stream/a/b/1"
UNUSED = """
    /gradio_api/upload_progress?upload_id=a /gradio_api/deep_link?session_hash=a /gradio_api/vibe-code
    /gradio_api/dev/reload /gradio_api/runs /gradio_api/run-history/buckets /gradio_api/profiling/traces
    /gradio_api/token /gradio_api/user /gradio_api/mcp /gradio_api/mcp/sse /file=/etc/hostname
    //gradio_api/file=/etc/hostname /gradio_api//file=/etc/hostname /gradio_api/file%3D/etc/hostname
    /gradio_api/./file=/etc/hostname /monitoring /monitoring/summary /docs /openapi.json /login /pwa_icon/9
"""
WRITES = """
    upload upload?upload_id=a component_server stream/a process_recording vibe-edit
    run-history/connect mcp login
"""


def test_no_route_reads_or_writes_files(pages, secrets) -> None:
    url = pages["dot-bias"].url
    paths = [f"/gradio_api/{route}{quote(path)}" for route in READS.split() for path in secrets]
    for path in [*paths, *UNUSED.split()]:
        for method in ("GET", "HEAD", "OPTIONS"):
            assert ask(url, method, path).status == 404, (method, path)
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.html"\r\n\r\n<b>\r\n--x--\r\n'
    kind = "multipart/form-data; boundary=x"
    for route in WRITES.split():
        assert ask(url, "POST", f"/gradio_api/{route}", form, Content_Type=kind).status == 404, route


@pytest.mark.parametrize("start", ["/assets", "/static", "/svelte", "/config"])
def test_the_routes_of_the_pages_own_files_lead_to_no_other(pages, secrets, start) -> None:
    for up in ("/..", "/%2e%2e", "/..%2f", "/%5c..", "/"):
        for path in (secrets[0], "/etc/hostname"):
            answer = ask(pages["dot-bias"].url, "GET", start + up * 20 + quote(path))
            assert answer.status in (400, 403, 404, 405), (start, up)


def test_gradios_own_check_of_files_is_on(pages, secrets) -> None:
    page = pages["unguarded"]
    for index, _, n in functions(page.url, that_read=True):
        for value in [value for path in secrets[:4] for value in hostile(path)]:
            body = json.dumps({"data": [value] * n, "fn_index": index, "session_hash": "a"}).encode()
            assert ask(page.url, "POST", "/gradio_api/run/predict", body).status == 500, body
    assert "it was not uploaded by a user" in page.log.read_text()


REQUESTS = [("GET", "/", None), ("POST", "/gradio_api/run/find_users", b'{"data": ["25"]}')]


@pytest.mark.parametrize("request_", [*REQUESTS, ("GET", "/gradio_api/heartbeat/a", None)], ids=str)
def test_foreign_hosts_and_origins_are_refused(pages, request_) -> None:
    url = pages["dot-bias"].url
    answer = ask(url, *request_, Host="evil.example")
    assert (answer.status, answer.code) == (421, "misdirected_request")
    for origin in ("http://evil.example", "http://127.0.0.1", "http://localhost:3000", "null"):
        answer = ask(url, *request_, Origin=origin)
        assert (answer.status, answer.code, answer.cors) == (403, "foreign_origin", [])
        preflight = {"Origin": origin, "Access_Control_Request_Method": "POST"}
        answer = ask(url, "OPTIONS", request_[1], None, **preflight)
        assert (answer.status, answer.cors) == (403, [])


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST", "192.0.2.7", "[::1]", "recommender.example"])
def test_own_hosts_and_origins_are_answered(pages, host) -> None:
    url = pages["dot-bias"].url
    port = urlsplit(url).port
    for request in REQUESTS:
        for origin in ({}, {"Origin": f"http://{host}:{port}"}, {"Origin": "https://recommender.example"}):
            answer = ask(url, *request, Host=f"{host}:{port}", **origin)
            assert (answer.status, answer.cors) == (200, [])


def test_bodies_are_bounded(pages) -> None:
    url, path = pages["dot-bias"].url, "/gradio_api/run/find_users"
    assert ask(url, "POST", path, b'{"data": ["25"]}' + b" " * (2**20 - 16)).status == 200
    answer = ask(url, "POST", path, b" " * (2**20 + 1))
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert ask(url, "POST", path, b"", Content_Length="9" * 5000).status == 400
    answer = ask(url, "POST", path, gzip.compress(b'{"data": ["25"]}'), Content_Encoding="gzip")
    assert (answer.status, answer.code) == (415, "unsupported_media_type")


POSTED = (
    "run/find_users api/find_users call/find_users call/v2/find_users queue/join cancel reset upload stream/a"
)


@pytest.mark.parametrize("path", ["/", "/config", *(f"/gradio_api/{route}" for route in POSTED.split())])
def test_no_route_takes_a_large_body(pages, path) -> None:
    """Declared, in chunks, and as an upload."""
    for headers in ({"Content_Length": "50000000"}, {"Content_Type": "multipart/form-data; boundary=x"}):
        answer = ask(pages["dot-bias"].url, "POST", path, bytes(2**20 + 1), **headers)
        assert (answer.status, answer.code) == (413, "body_too_large")
    with create_connection(pages["dot-bias"].url) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode() + 17 * (b"10000\r\n" + bytes(65536) + b"\r\n"))
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_heads_are_bounded(pages) -> None:
    url = pages["dot-bias"].url
    assert ask(url, "GET", "/config", X="a" * 10_000).status == 200
    assert ask(url, "GET", "/assets/" + "a" * 5000).status == 404
    sent = 0
    with create_connection(url) as connection, suppress(OSError):  # it closes the connection
        connection.sendall(b"GET /config HTTP/1.1\r\nHost: localhost\r\nX: ")
        while sent < 1 << 26:
            sent += connection.send(b"a" * 10_000)
    assert sent < 1 << 26
