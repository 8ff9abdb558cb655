"""The bundle changes under a running service: nothing fails, nothing is mixed, a bad one changes nothing."""

from __future__ import annotations

import asyncio
import gc
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
from fixture_bundles import FIXTURES, edit_manifest
from patience import wait_until

from serve.http.model import CurrentModel, load_model
from serve.runtime.recommender import Recommender

from .conftest import Service, app_client, point, ready_version, running, version_of

USERS = [10, 50, 120, 300]
ITEMS = [1001, 1010, 1033]
TOLERANCE = 1e-5


class Load(threading.Thread):
    """Sends requests without pause, and checks each answer against the version that it names."""

    def __init__(self, service: Service, models: dict[str, Recommender], may_reset: bool) -> None:
        super().__init__()
        self.service, self.may_reset = service, may_reset
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
    """Two clients that send requests all the time; their failures are raised at the end.

    With `may_reset`, they connect again after a connection was reset.
    """
    loads = [Load(service, models, may_reset) for _ in range(2)]
    for load in loads:
        load.start()
    try:
        wait_until(lambda: all(load.problem or any(load.n_answers.values()) for load in loads))
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


@pytest.mark.parametrize("n_reloads", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_reloads_under_load(
    tmp_path: Path, link: Path, models: dict[str, Recommender], n_reloads: int
) -> None:
    with running(tmp_path, link, "--workers", "2") as service, loaded(service, models):
        for number in range(n_reloads):
            bundle = ("dot-bias", "dot")[number % 2]
            point(link, FIXTURES / bundle)
            wait_until(lambda bundle=bundle: versions(service) == {version_of(bundle)})


@pytest.mark.slow
def test_a_rolling_restart_under_load(tmp_path: Path, link: Path, models: dict[str, Recommender]) -> None:
    """SIGHUP: each worker is replaced by another, which serves before the first one ends.

    A connection that the first one accepts as it ends is reset, by uvicorn.
    """
    with running(tmp_path, link, "--workers", "2") as service, loaded(service, models, may_reset=True):
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


@pytest.mark.slow
def test_a_bad_bundle_changes_nothing_and_a_folder_may_be_replaced(tmp_path: Path, link: Path) -> None:
    """The pointer is a text file that names a link; nobody reads the standard output."""
    for name in ("damaged", "pipe", "new"):
        shutil.copytree(FIXTURES / "dot-bias", tmp_path / name)
    pointer = tmp_path / "current.txt"
    pointer.write_text("current\n")
    graph = tmp_path / "damaged" / "recommend.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    (tmp_path / "pipe" / "manifest.json").unlink()
    os.mkfifo(tmp_path / "pipe" / "manifest.json")
    (tmp_path / "empty").mkdir()
    bad = [tmp_path / "damaged", lying(tmp_path), *(tmp_path / name for name in ("nowhere", "empty", "pipe"))]
    with running(tmp_path, pointer) as service, service.client() as client:
        assert service.process.stdout
        service.process.stdout.close()
        reasons = {None}
        for number, target in enumerate(bad, 1):
            point(link, target)
            wait_until(lambda: client.get("/health/ready").json()["last_error"] not in reasons)
            ready = client.get("/health/ready")
            assert (ready.status_code, ready.json()["model_version"]) == (200, version_of("dot"))
            reason = ready.json()["last_error"]
            reasons.add(reason)
            assert str(tmp_path) not in reason
            assert reason in service.log().replace(f"{tmp_path}/", "")
            assert client.post("/v1/recommend", json={"user_id": 10}).status_code == 200
            assert f"recsys_model_load_failures_total {number}.0" in client.get("/metrics").text
        point(link, FIXTURES / "dot-bias")
        wait_until(lambda: ready_version(client) == version_of("dot-bias"))
        assert client.get("/health/ready").json()["last_error"] is None
        shutil.copytree(FIXTURES / "dot", tmp_path / "served")
        pointer.write_text("served")
        wait_until(lambda: ready_version(client) == version_of("dot"))
        (tmp_path / "served").rename(tmp_path / "old")  # as an export with --overwrite does
        (tmp_path / "new").rename(tmp_path / "served")
        wait_until(lambda: ready_version(client) == version_of("dot-bias"))
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
        assert "Traceback" not in service.log()


@pytest.mark.slow
def test_a_dead_worker_is_replaced_though_the_pointer_is_bad(tmp_path: Path, link: Path) -> None:
    """The new worker loads the last good bundle, and the metrics keep the values of the dead one."""

    def answered() -> float:
        with service.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(counted))

    counted = 'recsys_http_requests_total{method="POST",route="/v1/recommend",status="200"} '
    with running(tmp_path, link, "--workers", "2") as service:
        for _ in range(20):
            with service.client() as client:
                assert client.post("/v1/recommend", json={"user_id": 10}).status_code == 200
        assert answered() == 20
        point(link, tmp_path / "nowhere")
        first = service.children()
        assert len(first) == 2
        for pid in first:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: pid not in service.children() and len(service.children()) == 2)
        assert not set(first) & set(service.children())
        wait_until(lambda: versions(service) == {version_of("dot")})
        assert answered() == 20
        point(link, FIXTURES / "dot-bias")
        wait_until(lambda: versions(service) == {version_of("dot-bias")})


def lying(folder: Path) -> Path:
    """A complete bundle with right checksums that fails a conformance case."""
    bundle = Path(shutil.copytree(FIXTURES / "dot-bias", folder / "lying"))
    cases = msgspec.json.decode((bundle / "conformance.json").read_bytes())
    cases["graphs"]["recommend"][0]["outputs"]["top_scores"]["data"][0] += 0.01
    (bundle / "conformance.json").write_bytes(msgspec.json.encode(cases))
    edit_manifest(bundle)
    return bundle


def test_a_replaced_model_is_freed_at_once() -> None:
    """Without a garbage collection, which an idle service hardly ever does."""
    current = CurrentModel(load_model(FIXTURES / "dot", "cpu", 1))
    old = weakref.ref(current.model)

    async def ask_and_swap() -> None:
        async with app_client(FIXTURES / "dot", current=current) as client:
            for route, body in (
                ("recommend", {"user_id": 10}),
                ("score", {"user_id": 10, "item_ids": [1001]}),
                ("fold-in", {"ratings": [{"item_id": 1001, "rating": 5}]}),
            ):
                assert (await client.post(f"/v1/{route}", json=body)).status_code == 200
            current.swap(load_model(FIXTURES / "dot-bias", "cpu", 1))

    gc.disable()
    try:
        asyncio.run(ask_and_swap())
        assert old() is None
    finally:
        gc.enable()
