"""The page's server gives no file away, whatever a request names, and answers to its own pages alone."""

from __future__ import annotations

import json
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest
from fixture_bundles import FIXTURES
from patience import PATIENCE

SECRET = "the secret of this machine"
META = {"_type": "gradio.FileData"}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return json.loads(self.body)["error"]["code"]


def ask(url: str, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    """As it is written: nothing is normalised or added but what HTTP needs."""
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
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


def config(url: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(url, "GET", "/config").body)
    return found


@pytest.fixture
def secrets(tmp_path, pages) -> list[str]:
    """Files that no client may read (also of the server's working and temporary folders), and a far one."""
    paths = [tmp_path / "secret.txt", tmp_path / "secret.svg", pages["dot-bias"].temp / "secret.txt"]
    for path in paths:
        path.write_text(SECRET)
    yield [*map(str, paths), str(Path("pyproject.toml").resolve()), "http://192.0.2.1/secret.txt"]
    paths[-1].unlink()


def hostile(path: str) -> list[Any]:
    """Values that name a file, as Gradio's own components send them and nested."""
    file = {"path": path, "meta": META}
    return [
        file,
        {**file, "url": path, "is_stream": True},
        {"a": [[{"b": {"c": file}}]]},
        [file],
        {"path": file},
    ]


def calls(function: dict[str, Any], value: Any) -> list[tuple[str, Any]]:
    """Route and body of every way to send a value to a function: as each argument, and as the event."""
    index, name, n = function["id"], function["api_name"], len(function["inputs"])
    bodies = [{"data": [None] * n, "event_data": value, "fn_index": index, "session_hash": "a"}]
    if n:
        bodies.append({"data": [value] * n, "fn_index": index, "session_hash": "a"})
    routes = ["run/predict", "api/predict/", f"run/{name}", f"api/{name}", "queue/join", f"call/{name}"]
    return [(route, body) for route in routes for body in bodies] + [(f"call/v2/{name}", {"query": value})]


def test_no_function_takes_a_file_by_any_route(pages, secrets) -> None:
    served = pages["dot-bias"]
    functions = config(served.url)["dependencies"]
    assert len(functions) >= 18
    before = sorted(served.temp.rglob("*"))
    for function in functions:
        for value in [*hostile(secrets[0]), *(hostile(path)[0] for path in secrets[1:])]:
            for route, body in calls(function, value):
                answer = ask(served.url, "POST", f"/gradio_api/{route}", json.dumps(body).encode())
                assert (answer.status, answer.code) == (422, "no_files"), (route, body)
    assert sorted(served.temp.rglob("*")) == before


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-be"])
def test_a_file_is_seen_however_it_is_written(pages, secrets, encoding) -> None:
    file = f'{{"\\u0070ath": "{secrets[0]}", "m\\u0065ta": {{"_type": "gradio.FileData"}}}}'
    body = f'{{"data": [{file}], "fn_index": 0, "session_hash": "a"}}'.encode(encoding)
    for kind in ("application/json", "application/json; charset=utf-16", "text/plain", ""):
        answer = ask(pages["dot-bias"].url, "POST", "/gradio_api/run/predict", body, Content_Type=kind)
        assert (answer.status, answer.code) == (422, "no_files")


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe\xff", b"{", b"{'a': 1}"])
def test_what_is_no_json_is_refused(pages, body) -> None:
    answer = ask(pages["dot-bias"].url, "POST", "/gradio_api/queue/join", body)
    assert (answer.status, answer.code) == (400, "bad_json")


def test_no_route_reads_or_writes_files(pages, secrets) -> None:
    served = pages["dot-bias"]
    before = sorted(served.temp.rglob("*"))
    reads = [
        "file=",
        "file/",
        "proxy=",
        "proxy=http://127.0.0.1",
        "custom_component/a/client/b",
        "stream/a/b/1",
    ]
    others = ["upload_progress?upload_id=a", "deep_link?session_hash=a", "vibe-code", "dev/reload", "runs"]
    others += ["run-history/buckets", "profiling/traces", "token", "user", "mcp", "mcp/sse"]
    paths = [f"/gradio_api/{route}{quote(path)}" for route in reads for path in secrets]
    paths += [f"/gradio_api/{route}" for route in others]
    paths += ["/file=/etc/hostname", "//gradio_api/file=/etc/hostname", "/gradio_api//file=/etc/hostname"]
    paths += ["/gradio_api/file%3D/etc/hostname", "/gradio_api/./file=/etc/hostname"]
    paths += ["/monitoring", "/monitoring/summary", "/docs", "/openapi.json", "/login", "/pwa_icon/9"]
    for path in paths:
        for method in ("GET", "HEAD", "OPTIONS"):
            answer = ask(served.url, method, path)
            assert answer.status == 404, (method, path)
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.html"\r\n\r\n<b>\r\n--x--\r\n'
    kind = "multipart/form-data; boundary=x"
    writes = [
        "upload",
        "upload?upload_id=a",
        "component_server",
        "stream/a",
        "process_recording",
        "vibe-edit",
    ]
    for route in [*writes, "run-history/connect", "mcp", "login"]:
        answer = ask(served.url, "POST", f"/gradio_api/{route}", form, Content_Type=kind)
        assert answer.status == 404, route
    assert sorted(served.temp.rglob("*")) == before


@pytest.mark.parametrize("start", ["/assets", "/static", "/svelte", "/config"])
def test_the_pages_own_files_are_no_way_out(pages, secrets, start) -> None:
    for up in ("/..", "/%2e%2e", "/..%2f", "/%5c..", "/"):
        for path in (secrets[0], "/etc/hostname"):
            answer = ask(pages["dot-bias"].url, "GET", start + up * 20 + quote(path))
            assert answer.status in (400, 403, 404, 405), (start, up)


# In a process of its own, since gradio leaves sockets and event loops unclosed there.
GRADIO_ALONE = """
import json, os, sys
from demos.gradio_app.app import build_app, mounted
from serve.runtime.recommender import Recommender
from starlette.testclient import TestClient

with TestClient(mounted(build_app(Recommender.load(sys.argv[1], "cpu")), "127.0.0.1", 7860)) as client:
    functions = client.get("/config").json()["dependencies"]
    for value in json.loads(sys.argv[2]):
        for index, n in ((function["id"], len(function["inputs"])) for function in functions):
            body = {"data": [value] * n, "fn_index": index, "session_hash": "a"}
            status = client.post("/gradio_api/run/predict", json=body).status_code
            assert status == (500 if n else 200), (body, status)
    assert not os.path.exists(os.environ["GRADIO_TEMP_DIR"])
"""


def test_gradios_own_check_of_files_is_on(secrets) -> None:
    values = json.dumps([value for path in secrets[:4] for value in hostile(path)])
    command = [sys.executable, "-c", GRADIO_ALONE, str(FIXTURES / "dot-bias"), values]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 0, ended.stderr
    assert "it was not uploaded by a user" in ended.stderr


GET, POST = ("GET", "/", None), ("POST", "/gradio_api/run/find_users", b'{"data": ["25"]}')


def cors(answer: Answer) -> list[str]:
    return [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("method", [GET, POST, ("GET", "/gradio_api/heartbeat/a", None)], ids=str)
def test_foreign_names_and_pages_are_refused(pages, method) -> None:
    url = pages["dot-bias"].url
    answer = ask(url, *method, Host="evil.example")
    assert (answer.status, answer.code) == (421, "misdirected_request")
    for origin in ("http://evil.example", "http://127.0.0.1", "http://localhost:3000", "null"):
        answer = ask(url, *method, Origin=origin)
        assert (answer.status, answer.code, cors(answer)) == (403, "foreign_origin", [])
        asks = {"Origin": origin, "Access_Control_Request_Method": "POST"}
        answer = ask(url, "OPTIONS", method[1], None, **asks)
        assert (answer.status, cors(answer)) == (403, [])


@pytest.mark.parametrize("method", [GET, POST], ids=str)
@pytest.mark.parametrize(
    "host", ["127.1", "127.0.0.1", "LOCALHOST", "192.0.2.7", "[::1]", "recommender.example"]
)
def test_its_own_names_and_pages_are_answered(pages, method, host) -> None:
    url = pages["dot-bias"].url
    port = urlsplit(url).port
    for origin in ({}, {"Origin": f"http://{host}:{port}"}, {"Origin": "https://recommender.example"}):
        answer = ask(url, *method, Host=f"{host}:{port}", **origin)
        assert (answer.status, cors(answer)) == (200, [])


def test_bodies_are_bounded(pages) -> None:
    url, path = pages["dot-bias"].url, "/gradio_api/run/find_users"
    assert ask(url, "POST", path, b'{"data": ["25"]}' + b" " * (2**20 - 16)).status == 200
    answer = ask(url, "POST", path, b" " * (2**20 + 1))
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert ask(url, "POST", path, b"", Content_Length="9" * 5000).status == 400
