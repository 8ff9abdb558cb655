"""`recsys serve` as it is typed: what it refuses, in one line each."""

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
    refused(serve(str(damaged), "--port", "0"), 1, "recommend.onnx has 0 bytes")
    refused(serve(str(tmp_path / "nothing"), "--port", "0"), 2, "does not exist")


def test_a_device_that_is_not_there() -> None:
    from serve.runtime.session import has_cuda_gpu

    if not has_cuda_gpu():
        refused(serve(str(BUNDLE), "--port", "0", "--device", "cuda"), 1, "device='cuda'")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "70000"),
        (["--workers", "0"], "0 is not in the range"),
        (["--host", "192.0.2.1"], "can't listen on 192.0.2.1"),
        (["--host", "no.such.host.invalid"], "can't listen on no.such.host.invalid"),
        (["--address", "auto"], "--address is for --engine ray"),
        (["--engine", "ray", "--port", "0"], "need a port that is known"),
        (["--engine", "ray", "--drain-seconds", "2"], "--drain-seconds has no effect"),
        (["--token-file", "/nowhere/token"], "can't be read"),
        (["--max-concurrency", "0"], "0 is not in the range"),
    ],
    ids=str,
)
def test_options_that_are_wrong(options: list[str], message: str) -> None:
    refused(serve(str(BUNDLE), *options), 2, message)


@pytest.mark.parametrize("token", ["", "  ", "two words", "ümlaut"])
def test_tokens_that_are_none(tmp_path: Path, token: str) -> None:
    refused(serve(str(BUNDLE), token=token), 2, "must hold a token")
    (tmp_path / "token").write_text(token)
    refused(serve(str(BUNDLE), "--token-file", str(tmp_path / "token")), 2, "must hold a token")


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for engine in ("local", "ray"):
            message = f"port {port}: Address already in use"
            refused(serve(str(BUNDLE), "--port", port, "--engine", engine), 2, message)


def test_a_token_from_a_file_and_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret-of-the-file\n")
    options = ["--token-file", str(tmp_path / "token"), "--host", "0.0.0.0"]
    with running(tmp_path, BUNDLE, *options, token="another") as service, service.client() as client:
        assert client.get("/v1/model").status_code == 401
        headers = {"authorization": "Bearer secret-of-the-file"}
        assert client.get("/v1/model", headers=headers).status_code == 200
        service.interrupt()
        assert service.wait() == 0
        assert "Traceback" not in service.log()


def test_names_that_it_is_reached_by(tmp_path: Path) -> None:
    """A page of another site may have its own name lead here (DNS rebinding)."""
    with running(tmp_path, BUNDLE, "--allow-host", "recs.example") as service, service.client() as client:
        for host, status in (("recs.example", 200), ("localhost", 200), ("evil.example", 421)):
            response = client.post("/v1/recommend", json={"user_id": 10}, headers={"host": host})
            assert response.status_code == status, host
        foreign = {"origin": "http://evil.example"}
        response = client.post("/v1/recommend", json={"user_id": 10}, headers=foreign)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "foreign_origin")


def test_open_to_others_without_a_token_is_told(tmp_path: Path) -> None:
    with running(tmp_path, BUNDLE, "--host", "0.0.0.0") as service:
        assert "no token is set" in service.log()


def test_files_of_the_folder_that_it_is_started_in_are_not_run(tmp_path: Path) -> None:
    for name in ("serve.py", "secrets.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('a file of the folder was run')")
    command = Path(sys.executable).with_name("recsys")
    started = subprocess.Popen(
        [command, "serve", BUNDLE, "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout
    assert started.stdout.readline().startswith("Serving ")
    started.terminate()
    started.communicate()
    assert started.returncode == 0


def test_values_that_are_no_times_and_names_that_are_no_hosts() -> None:
    for seconds in ("nan", "inf"):
        refused(serve(str(BUNDLE), "--drain-seconds", seconds), 2, "must be a finite number")
    refused(serve(str(BUNDLE), "--host", "x" * 70), 2, "can't listen on")
