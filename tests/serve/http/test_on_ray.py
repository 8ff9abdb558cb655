"""The same app as two replicas under Ray Serve: real processes, one killed, the bundle changed under them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from fixture_bundles import FIXTURES
from patience import wait_until
from ports import free_port

from serve.runtime.recommender import Recommender

from .conftest import Service, running

pytest.importorskip("ray", reason="needs the extra `ray`")


def replicas(log_folder: Path, title: bytes = b"ray::ServeReplica") -> list[int]:
    """Process ids of the replicas, or others, of the cluster whose processes carry our mark."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes()
                mark = f"RECSYS_TEST_MARK={log_folder}".encode()
                if title in command.split(b"\0")[0] and mark in (process / "environ").read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue
    return found


DOT, DOT_BIAS = FIXTURES / "dot", FIXTURES / "dot-bias"


@dataclass
class Cluster:
    """`recsys serve --engine ray` with two replicas, and the link that it follows."""

    service: Service
    client: httpx.Client
    link: Path
    folder: Path
    models: dict[str, Recommender]

    def point(self, target: Path) -> None:
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(target)

    def version(self) -> str | None:
        """The one version that twenty answers name, or None; each must be right for the one it names."""
        versions = set()
        for user in [10, 20, 30, 40] * 5:
            response = self.client.post("/v1/recommend", json={"user_id": user})
            assert response.status_code == 200, response.text
            version = response.json()["model_version"]
            assert response.headers["x-model-version"] == version
            scores = [item["score"] for item in response.json()["items"]]
            expected = self.models[version].recommend(user).scores
            np.testing.assert_allclose(scores, expected, atol=1e-5)
            versions.add(version)
        return versions.pop() if len(versions) == 1 else None

    def answers_from(self, bundle: Path) -> bool:
        version = self.version()
        return version is not None and self.models[version].bundle.path == bundle


OPTIONS = ["--engine", "ray", "--workers", "2", "--threads", "1"]


# Ray gives its own processes half a minute to start, which a busy machine may need. Nothing else is retried.
START_TIMEOUT = "timed out during startup"
ATTEMPTS = 3


@contextmanager
def served(folder: Path, link: Path) -> Iterator[Service]:
    with ExitStack() as stack:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                service = stack.enter_context(running(folder, link, *OPTIONS, port=str(free_port())))
                break
            except pytest.fail.Exception as failure:
                if START_TIMEOUT not in str(failure) or attempt == ATTEMPTS:
                    raise
                print(f"Ray did not start in its own time, {attempt} of {ATTEMPTS} attempts")  # noqa: T201  a retry is told
        yield service


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("RECSYS_TEST_MARK", str(tmp_path))
    loaded = [Recommender.load(path, "cpu") for path in (DOT, DOT_BIAS)]
    link = tmp_path / "current"
    link.symlink_to(DOT)
    with served(tmp_path, link) as service, service.client() as client:
        models = {model.bundle.version: model for model in loaded}
        yield Cluster(service, client, link, tmp_path, models)


@pytest.mark.slow
def test_two_replicas_answer_reload_and_stop(cluster: Cluster) -> None:
    assert cluster.answers_from(DOT)
    assert cluster.client.get("/health/ready").json()["device"] == "cpu"
    response = cluster.client.post("/v1/recommend", json={"user_id": "x"})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_request")
    before = set(replicas(cluster.folder))
    assert len(before) == 2
    cluster.point(DOT_BIAS)
    # Each replica changes over by itself; meanwhile every answer is right for the version it names.
    wait_until(lambda: cluster.answers_from(DOT_BIAS))
    assert set(replicas(cluster.folder)) == before, "none was replaced"
    cluster.service.signal(signal.SIGTERM)
    cluster.service.signal(signal.SIGTERM)  # as some service managers do
    assert cluster.service.wait() == 0
    wait_until(lambda: replicas(cluster.folder) == [])


@pytest.mark.slow
def test_a_bad_bundle_and_a_killed_replica(cluster: Cluster) -> None:
    cluster.point(cluster.folder)
    wait_until(lambda: cluster.client.get("/health/ready").json()["last_error"])
    assert cluster.answers_from(DOT)
    before = replicas(cluster.folder)
    os.kill(before[0], signal.SIGKILL)

    def replaced() -> bool:
        now = replicas(cluster.folder)
        return len(now) == 2 and before[0] not in now

    wait_until(replaced)
    assert cluster.answers_from(DOT), "the new replica waits until the bundle is good"
    cluster.point(DOT_BIAS)
    wait_until(lambda: cluster.answers_from(DOT_BIAS))


@pytest.mark.slow
def test_it_stops_though_ray_is_dead(cluster: Cluster) -> None:
    """As when a service manager signals every process of the service."""
    (raylet,) = replicas(cluster.folder, b"/raylet")
    os.kill(raylet, signal.SIGTERM)
    cluster.service.signal(signal.SIGTERM)
    assert cluster.service.wait() == 0
