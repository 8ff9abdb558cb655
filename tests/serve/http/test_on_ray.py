"""The same app as two replicas under Ray Serve: real processes, one killed, the bundle changed under them."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import httpx
import numpy as np
import pytest
from fixture_bundles import FIXTURES

from serve.recommender import Recommender

from .conftest import running, wait_until

pytest.importorskip("ray", reason="needs the extra `ray`")


def replicas(log_folder: Path) -> list[int]:
    """Process ids of the replicas of the cluster whose processes carry our mark."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                title = (process / "cmdline").read_bytes()
                mark = f"RECSYS_TEST_MARK={log_folder}".encode()
                if title.startswith(b"ray::ServeReplica") and mark in (process / "environ").read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue
    return found


def test_two_replicas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_TEST_MARK", str(tmp_path))
    dot, dot_bias = (Recommender.load(FIXTURES / name, "cpu") for name in ("dot", "dot-bias"))
    link = tmp_path / "current"
    link.symlink_to(FIXTURES / "dot")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    options = ["--engine", "ray", "--workers", "2", "--threads", "1"]
    with running(tmp_path, link, *options, port=port) as service, service.client() as client:

        def answers(expected: Recommender) -> bool:
            """Whether twenty answers in a row name this model; each must be right for the one it names."""
            versions = set()
            for user in [10, 20, 30, 40] * 5:
                response = client.post("/v1/recommend", json={"user_id": user})
                assert response.status_code == 200, response.text
                version = response.json()["model_version"]
                model = dot if version == dot.bundle.version else dot_bias
                assert version == model.bundle.version == response.headers["x-model-version"]
                scores = [item["score"] for item in response.json()["items"]]
                np.testing.assert_allclose(scores, model.recommend(user).scores, atol=1e-5)
                versions.add(version)
            return versions == {expected.bundle.version}

        assert answers(dot)
        assert client.get("/health/ready").json()["device"] == "cpu"
        response = client.post("/v1/recommend", json={"user_id": "x"})
        assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_request")
        assert len(replicas(tmp_path)) == 2

        link.unlink()
        link.symlink_to(FIXTURES / "dot-bias")
        service.signal(signal.SIGHUP)
        wait_until(lambda: answers(dot_bias))
        assert "Reloaded" in service.line()
        link.unlink()
        link.symlink_to(tmp_path)
        service.signal(signal.SIGHUP)
        assert "nothing was changed" in service.line()
        assert answers(dot_bias)

        before = replicas(tmp_path)
        os.kill(before[0], signal.SIGKILL)

        def replaced() -> bool:
            try:
                assert client.get("/health/live").status_code in (200, 500, 503)
            except httpx.TransportError:
                return False
            now = replicas(tmp_path)
            return len(now) == 2 and before[0] not in now

        wait_until(replaced)
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        assert answers(dot_bias)
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
        assert replicas(tmp_path) == []
