"""The options of `recsys serve`, and what it refuses."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fixture_bundles import FIXTURES
from patience import PATIENCE

from serve.runtime.cuda import has_cuda_gpu

from ..conftest import Run
from .conftest import running

BUNDLE = FIXTURES / "dot"
without_gpu = pytest.mark.skipif(has_cuda_gpu(), reason="there is a GPU")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=without_gpu)])
def test_a_bundle_or_a_device_that_does_not_work(device: str, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    if device == "cpu":
        (bundle / "recommend.onnx").write_bytes(b"")
    command = [sys.executable, "-m", "recsys", "serve", bundle, "--port", "0", "--device", device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert ("recommend.onnx" if device == "cpu" else "cuda") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--port", "70000"],
        ["--workers", "0"],
        ["--host", "192.0.2.1"],
        ["--host", "no.such.host.invalid"],
        ["--host", "x" * 70],
        ["--address", "auto"],
        ["--port", "0", "--engine", "ray"],
        ["--drain-seconds", "2", "--engine", "ray"],
        ["--drain-seconds", "nan"],
        ["--drain-seconds", "inf"],
        ["--token-file", "/nowhere/token"],
        ["--max-concurrency", "0"],
        ["/nowhere/bundle"],
    ],
    ids=str,
)
def test_invalid_options(recsys: Run, options: list[str]) -> None:
    """The message names the option or its value."""
    code, _, errors = recsys("serve", *([] if len(options) == 1 else [BUNDLE]), *options)
    assert code == 2
    assert any(word in errors for word in options)
    assert "Traceback" not in errors


@pytest.mark.parametrize("token", ["", "two words", "ümlaut"])
def test_invalid_tokens(recsys: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str) -> None:
    monkeypatch.setenv("RECSYS_TOKEN", token)
    code, _, errors = recsys("serve", BUNDLE)
    assert (code, "RECSYS_TOKEN" in errors) == (2, True)
    (tmp_path / "token").write_text(token)
    code, _, errors = recsys("serve", BUNDLE, "--token-file", tmp_path / "token")
    assert (code, str(tmp_path / "token") in errors) == (2, True)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_port_that_is_taken(recsys: Run, engine: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, errors = recsys("serve", BUNDLE, "--port", port, "--engine", engine)
        assert (code, f"port {port}" in errors) == (2, True)


def test_a_token_from_a_file_allowed_hosts_and_ctrl_c(tmp_path: Path) -> None:
    """The file takes precedence. Host and Origin are checked against DNS rebinding."""
    (tmp_path / "token").write_text("secret-of-the-file\n")
    options = ["--token-file", str(tmp_path / "token"), "--host", "0.0.0.0", "--allow-host", "recs.example"]
    with running(tmp_path, BUNDLE, *options, token="another") as service, service.client() as client:
        assert client.get("/v1/model").status_code == 401
        right = {"authorization": "Bearer secret-of-the-file"}
        for name, value, status in (
            ("host", "recs.example", 200),
            ("host", "localhost", 200),
            ("host", "evil.example", 421),
            ("origin", "http://evil.example", 403),
        ):
            for method in ("POST", "OPTIONS") if status > 200 else ("POST",):
                headers = {**right, name: value, "access-control-request-method": "POST"}
                response = client.request(method, "/v1/recommend", json={"user_id": 10}, headers=headers)
                assert response.status_code == status, value
                assert not [name for name in response.headers if name.startswith("access-control")]
        service.interrupt()
        assert service.wait() == 0
        assert "Traceback" not in service.log()
        assert "no token" not in service.log()


@pytest.mark.slow
def test_files_of_the_current_folder_are_not_run_and_an_open_service_warns(tmp_path: Path) -> None:
    for name in ("serve.py", "secrets.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('a file of the folder was run')")
    command = Path(sys.executable).with_name("recsys")
    options = ["--host", "0.0.0.0", "--port", "0"]
    started = subprocess.Popen(
        [command, "serve", BUNDLE, *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout
    assert started.stdout.readline().startswith("Serving ")
    started.terminate()
    _, errors = started.communicate()
    assert started.returncode == 0
    assert "no token" in errors
