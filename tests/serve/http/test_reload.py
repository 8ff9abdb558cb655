"""The bundle changes under a running service: nothing fails, nothing is mixed, a bad one changes nothing."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import shutil
import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
from fixture_bundles import FIXTURES
from patience import wait_until

from serve.http.model import LoadedModel, load_model
from serve.runtime.recommender import Recommender

from .conftest import Service, app_client, point, ready_version, running, version_of

USERS = [10, 50, 120, 300]
ITEMS = [1001, 1010, 1033]
TOLERANCE = 1e-5


class Load(threading.Thread):
    """Asks and asks, and checks each answer against the version that it states."""

    def __init__(self, service: Service, models: dict[str, Recommender], may_reset: bool) -> None:
        super().__init__()
        self.may_reset = may_reset
        self.service, self.models = service, models
        self.stop = threading.Event()
        self.n_answers = dict.fromkeys(models, 0)
        self.problem: BaseException | None = None
        self.expected = {
            (version, user): (model.recommend(user, 20).scores, model.score(user, ITEMS).scores)
            for version, model in models.items()
            for user in USERS
        }

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                with suppress(*[httpx.TransportError] * self.may_reset), self.service.client() as client:
                    while not self.stop.is_set():
                        for user in USERS:
                            self.ask(client, user)
        except BaseException as error:  # noqa: BLE001  raised again in the test
            self.problem = error

    def ask(self, client: httpx.Client, user: int) -> None:
        ranked = client.post("/v1/recommend", json={"user_id": user, "top_k": 20})
        scored = client.post("/v1/score", json={"user_id": user, "item_ids": ITEMS})
        for place, response in enumerate((ranked, scored)):
            assert response.status_code == 200, response.text
            found = response.json()
            version = found["model_version"]
            assert response.headers["x-model-version"] == version
            scores = [row["score"] for row in found["items" if place == 0 else "scores"]]
            np.testing.assert_allclose(scores, self.expected[version, user][place], atol=TOLERANCE)
            self.n_answers[version] += 1


@pytest.fixture(scope="module")
def models() -> dict[str, Recommender]:
    found = [Recommender.load(FIXTURES / name, "cpu") for name in ("dot", "dot-bias")]
    one, other = (model.recommend(USERS[0], 20).scores for model in found)
    assert np.abs(one - other).min() > 10 * TOLERANCE, "the two could not be told apart"
    return {model.bundle.version: model for model in found}


@contextmanager
def loaded(
    service: Service, models: dict[str, Recommender], *, may_reset: bool = False
) -> Iterator[list[Load]]:
    """Two clients that ask all the time; what they found wrong is raised at the end.

    With `may_reset`, they come again where a connection is reset.
    """
    loads = [Load(service, models, may_reset) for _ in range(2)]
    for load in loads:
        load.start()
    try:
        yield loads
    finally:
        for load in loads:
            load.stop.set()
            load.join()
    for load in loads:
        if load.problem is not None:
            raise load.problem
        assert all(load.n_answers.values()), load.n_answers


def versions(service: Service) -> set[str]:
    """Of several connections, so of several workers."""
    found = set()
    for _ in range(10):
        with suppress(httpx.TransportError), service.client() as client:
            found.add(ready_version(client))
    return found


@pytest.mark.parametrize("n_reloads", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_reloads_under_load(
    tmp_path: Path, link: Path, models: dict[str, Recommender], n_reloads: int
) -> None:
    with running(tmp_path, link, "--workers", "2") as service, loaded(service, models):
        for number in range(n_reloads):
            bundle = ("dot-bias", "dot")[number % 2]
            point(link, FIXTURES / bundle)
            wait_until(lambda bundle=bundle: versions(service) == {version_of(bundle)})


def test_a_rolling_restart_under_load(tmp_path: Path, link: Path, models: dict[str, Recommender]) -> None:
    """SIGHUP: each worker is replaced by another, which serves before the first one ends.

    A connection that the first one accepts as it ends is reset, by uvicorn.
    """
    with (
        running(tmp_path, link, "--workers", "2") as service,
        loaded(service, models, may_reset=True),
    ):
        first = set(service.children())
        point(link, FIXTURES / "dot-bias")
        service.signal(signal.SIGHUP)

        def replaced() -> bool:
            with suppress(httpx.TransportError), service.client() as client:
                assert client.get("/health/ready").status_code == 200, "a restart is no stop"
            now = set(service.children())
            return len(now) == 2 and not now & first

        wait_until(replaced)
        assert versions(service) == {version_of("dot-bias")}


def test_a_text_file_points_too(tmp_path: Path) -> None:
    pointer = tmp_path / "current.txt"
    pointer.write_text(f"{FIXTURES / 'dot'}\n")
    with running(tmp_path, pointer) as service, service.client() as client:
        assert ready_version(client) == version_of("dot")
        pointer.write_text(os.path.relpath(FIXTURES / "mlp", tmp_path))
        wait_until(lambda: ready_version(client) == version_of("mlp"))


def test_a_bad_bundle_changes_nothing(tmp_path: Path, link: Path) -> None:
    for name in ("damaged", "pipe"):
        shutil.copytree(FIXTURES / "dot-bias", tmp_path / name)
    graph = tmp_path / "damaged" / "recommend.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    (tmp_path / "pipe" / "manifest.json").unlink()
    os.mkfifo(tmp_path / "pipe" / "manifest.json")
    (tmp_path / "empty").mkdir()
    bad = {
        tmp_path / "damaged": "SHA-256",
        lying(tmp_path): "conformance cases",
        tmp_path / "nowhere": "No such file",
        tmp_path / "empty": "manifest.json",
        tmp_path / "pipe": "not a regular file",
    }
    with running(tmp_path, link) as service, service.client() as client:
        for number, (target, reason) in enumerate(bad.items(), 1):
            point(link, target)
            wait_until(lambda reason=reason: reason in (ready(client)["last_error"] or ""))
            assert ready(client)["model_version"] == version_of("dot")
            assert str(tmp_path) not in ready(client)["last_error"]
            assert client.post("/v1/recommend", json={"user_id": 10}).status_code == 200
            assert reason in service.log()
            assert f"recsys_model_load_failures_total {number}.0" in client.get("/metrics").text
        point(link, FIXTURES / "dot-bias")
        wait_until(lambda: ready_version(client) == version_of("dot-bias"))
        assert ready(client)["last_error"] is None
        assert "Traceback" not in service.log()


def ready(client: httpx.Client) -> dict[str, str]:
    response = client.get("/health/ready")
    assert response.status_code == 200
    found: dict[str, str] = response.json()
    return found


def test_a_folder_that_is_written_anew_is_loaded_anew(tmp_path: Path) -> None:
    """As an export with --overwrite does."""
    served = tmp_path / "served"
    shutil.copytree(FIXTURES / "dot", served)
    with running(tmp_path, served, "--workers", "2") as service:
        shutil.copytree(FIXTURES / "dot-bias", tmp_path / "new")
        served.rename(tmp_path / "old")
        (tmp_path / "new").rename(served)
        wait_until(lambda: versions(service) == {version_of("dot-bias")})


def test_a_dead_worker_is_replaced_though_the_pointer_is_bad(tmp_path: Path, link: Path) -> None:
    """The new worker loads the last good bundle."""
    with running(tmp_path, link, "--workers", "2") as service:
        point(link, tmp_path / "nowhere")
        first = service.children()
        assert len(first) == 2
        for pid in first:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: pid not in service.children() and len(service.children()) == 2)
        assert not set(first) & set(service.children())
        wait_until(lambda: versions(service) == {version_of("dot")})
        point(link, FIXTURES / "dot-bias")
        wait_until(lambda: versions(service) == {version_of("dot-bias")})


def test_metrics_are_those_of_all_workers_dead_ones_too(tmp_path: Path, link: Path) -> None:
    def answered(service: Service) -> float:
        with service.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(counted))

    counted = 'recsys_http_requests_total{method="POST",route="/v1/recommend",status="200"} '
    with running(tmp_path, link, "--workers", "2") as service:
        for _ in range(20):
            with service.client() as client:
                assert client.post("/v1/recommend", json={"user_id": 10}).status_code == 200
        assert answered(service) == 20
        (dead, _) = service.children()
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: dead not in service.children())
        assert answered(service) == 20


def test_it_goes_on_though_nobody_listens_to_what_it_says(tmp_path: Path, link: Path) -> None:
    with running(tmp_path, link) as service:
        assert service.process.stdout
        service.process.stdout.close()
        with service.client() as client:
            point(link, FIXTURES / "dot-bias")
            wait_until(lambda: ready_version(client) == version_of("dot-bias"))
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
        assert "Traceback" not in service.log()


def lying(folder: Path) -> Path:
    """A whole bundle with right checksums, whose graphs do not answer as its conformance cases say."""
    bundle = Path(shutil.copytree(FIXTURES / "dot-bias", folder / "lying"))
    golden = msgspec.json.decode((bundle / "conformance.json").read_bytes())
    golden["graphs"]["recommend"][0]["outputs"]["top_scores"]["data"][0] += 0.01
    data = msgspec.json.encode(golden)
    (bundle / "conformance.json").write_bytes(data)
    manifest = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    manifest["files"]["conformance.json"] = {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    (bundle / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    return bundle


def test_a_model_that_answers_no_more_is_gone_at_once() -> None:
    """By itself, not when the collector looks for cycles: a service that is idle hardly ever does."""
    first = load_model(FIXTURES / "dot", "cpu", 1)
    gone = weakref.ref(first)

    async def ask_and_swap(model: LoadedModel) -> None:
        async with app_client(FIXTURES / "dot", model=model) as client:
            for route, body in (
                ("recommend", {"user_id": 10}),
                ("score", {"user_id": 10, "item_ids": [1001]}),
                ("fold-in", {"ratings": [{"item_id": 1001, "rating": 5}]}),
            ):
                assert (await client.post(f"/v1/{route}", json=body)).status_code == 200
            client.current.swap(load_model(FIXTURES / "dot-bias", "cpu", 1))  # type: ignore[attr-defined]

    gc.disable()
    try:
        asyncio.run(ask_and_swap(first))
        del first
        assert gone() is None
    finally:
        gc.enable()
