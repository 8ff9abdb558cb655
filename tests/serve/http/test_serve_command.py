"""The options of `recsys serve`, and what it refuses."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fixture_bundles import FIXTURES
from patience import PATIENCE

from .conftest import running

BUNDLE = FIXTURES / "dot"


def serve(*arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "RECSYS_TOKEN"}
    if token is not None:
        env["RECSYS_TOKEN"] = token
    command = [sys.executable, "-m", "recsys", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=PATIENCE)


def refused(done: subprocess.CompletedProcess[str], exit_code: int, message: str) -> None:
    assert done.returncode == exit_code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_bundles_that_can_not_be_served(tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(BUNDLE, tmp_path / "damaged"))
    (damaged / "recommend.onnx").write_bytes(b"")
    refused(serve(str(damaged), "--port", "0"), 1, "recommend.onnx")
    refused(serve(str(tmp_path / "nothing"), "--port", "0"), 2, "nothing")


def test_a_device_that_is_not_there() -> None:
    from serve.runtime.session import has_cuda_gpu

    if has_cuda_gpu():
        pytest.skip("there is a GPU")
    refused(serve(str(BUNDLE), "--port", "0", "--device", "cuda"), 1, "cuda")


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
    ],
    ids=str,
)
def test_invalid_options(options: list[str]) -> None:
    """The message names the option or its value."""
    done = serve(str(BUNDLE), *options)
    refused(done, 2, options[0] if options[0] in done.stderr else options[1])


@pytest.mark.parametrize("token", ["", "two words", "ümlaut"])
def test_invalid_tokens(tmp_path: Path, token: str) -> None:
    refused(serve(str(BUNDLE), token=token), 2, "RECSYS_TOKEN")
    (tmp_path / "token").write_text(token)
    refused(serve(str(BUNDLE), "--token-file", str(tmp_path / "token")), 2, str(tmp_path / "token"))


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for engine in ("local", "ray"):
            message = f"port {port}"
            refused(serve(str(BUNDLE), "--port", port, "--engine", engine), 2, message)


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
            response = client.post("/v1/recommend", json={"user_id": 10}, headers={**right, name: value})
            assert response.status_code == status, value
        service.interrupt()
        assert service.wait() == 0
        assert "Traceback" not in service.log()
        assert "no token" not in service.log()


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
