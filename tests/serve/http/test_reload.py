"""The bundle changes under a running service: nothing fails, nothing is mixed, a bad one changes nothing."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import shutil
import signal
import threading
import weakref
from functools import partial
from pathlib import Path
from typing import cast

import httpx
import msgspec
import numpy as np
import pytest
from fixture_bundles import FIXTURES
from patience import PATIENCE, wait_until

from serve.http.admin import create_admin_app
from serve.http.control import Reply
from serve.http.model import Model, load_model
from serve.http.service import _reload, _reload_when
from serve.http.supervisor import Supervisor
from serve.runtime.recommender import Recommender

from .conftest import Service, app_client, point, ready_version, running, version_of

N_SWAPS = 100
USERS = [10, 50, 120, 300]
ITEMS = [1001, 1010, 1033]
TOLERANCE = 1e-5


class Load(threading.Thread):
    """Asks and asks, and checks each answer against the version that it states."""

    def __init__(self, service: Service, models: dict[str, Recommender]) -> None:
        super().__init__()
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
            with self.service.client() as client:
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


def test_a_hundred_swaps_under_load(tmp_path: Path, link: Path) -> None:
    models = {
        m.bundle.version: m for m in (Recommender.load(FIXTURES / b, "cpu") for b in ("dot", "dot-bias"))
    }
    assert len(models) == 2
    user = USERS[0]
    one, other = (model.recommend(user, 20).scores for model in models.values())
    assert np.abs(one - other).min() > 10 * TOLERANCE, "the two could not be told apart"
    with running(tmp_path, link, "--workers", "2", "--admin-port", "0") as service:
        loads = [Load(service, models) for _ in range(2)]
        for load in loads:
            load.start()
        try:
            with httpx.Client(base_url=service.admin_url, timeout=PATIENCE) as admin:
                for number in range(N_SWAPS):
                    bundle = ("dot-bias", "dot")[number % 2]
                    point(link, FIXTURES / bundle)
                    response = admin.post("/admin/reload")
                    assert response.status_code == 200, response.text
                    assert response.json()["model_version"] == version_of(bundle)
        finally:
            for load in loads:
                load.stop.set()
                load.join()
    for load in loads:
        if load.problem is not None:
            raise load.problem
        assert all(load.n_answers.values()), load.n_answers


def test_sighup_follows_the_link(tmp_path: Path, link: Path) -> None:
    with running(tmp_path, link) as service, service.client() as client:
        assert ready_version(client) == version_of("dot")
        point(link, FIXTURES / "dot-bias")
        assert ready_version(client) == version_of("dot"), "it was not told yet"
        service.signal(signal.SIGHUP)
        assert version_of("dot-bias") in service.line()
        assert ready_version(client) == version_of("dot-bias")


def test_a_text_file_points_too(tmp_path: Path) -> None:
    pointer = tmp_path / "current.txt"
    pointer.write_text(f"{FIXTURES / 'dot'}\n")
    with running(tmp_path, pointer) as service, service.client() as client:
        assert ready_version(client) == version_of("dot")
        pointer.write_text(os.path.relpath(FIXTURES / "mlp", tmp_path))
        service.signal(signal.SIGHUP)
        assert version_of("mlp") in service.line()
        assert ready_version(client) == version_of("mlp")


def test_a_bad_bundle_changes_nothing(tmp_path: Path, link: Path) -> None:
    def damaged() -> Path:
        bundle = Path(shutil.copytree(FIXTURES / "dot-bias", tmp_path / "damaged"))
        graph = bundle / "recommend.onnx"
        graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
        return bundle

    bad = {
        damaged(): "SHA-256",
        lying(tmp_path): "conformance cases",
        tmp_path / "nowhere": "No such file",
        tmp_path / "empty": "manifest.json",
    }
    (tmp_path / "empty").mkdir()
    with (
        running(tmp_path, link, "--workers", "2", "--admin-port", "0") as service,
        service.client() as client,
    ):
        with httpx.Client(base_url=service.admin_url, timeout=PATIENCE) as admin:
            for target, reason in bad.items():
                point(link, target)
                response = admin.post("/admin/reload")
                assert response.status_code == 409
                assert response.json()["error"]["code"] == "reload_failed"
                message = response.json()["error"]["message"]
                assert message.startswith("Nothing was changed.")
                assert reason in message
                assert reason in service.line()
                service.signal(signal.SIGHUP)
                assert reason in service.line()
                assert ready_version(client) == version_of("dot")
                assert client.post("/v1/recommend", json={"user_id": 10}).status_code == 200
            point(link, FIXTURES / "dot-bias")
            assert admin.post("/admin/reload").json()["model_version"] == version_of("dot-bias")
        assert ready_version(client) == version_of("dot-bias")


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


def test_the_admin_listener_is_off_unless_asked_for_and_not_for_browsers(tmp_path: Path, link: Path) -> None:
    with running(tmp_path, link, "--admin-port", "0") as service:
        with httpx.Client(base_url=service.admin_url, timeout=PATIENCE) as admin:
            refused = admin.get("/admin/reload")
            assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
            assert refused.json()["error"]["code"] == "method_not_allowed"
            assert admin.post("/admin/reload", headers={"origin": "http://evil.example"}).status_code == 403
            assert admin.post("/v1/recommend", json={"user_id": 10}).json()["error"]["code"] == "not_found"
            assert admin.post("/admin/reload").status_code == 200
            assert service.line().startswith("Reloaded: version ")
            point(link, tmp_path / "nothing")
            assert admin.post("/admin/reload").status_code == 409
            assert service.line().startswith("Not reloaded, nothing was changed: ")
        with service.client() as client:
            assert client.post("/admin/reload").status_code == 404


def test_a_reload_that_fails_by_our_own_fault_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    """Through the signal as through the listener: told, logged, and the next one is heard."""

    class Failing:
        n_asked = 0

        async def reload(self) -> Reply:
            self.n_asked += 1
            if self.n_asked < 3:
                raise RuntimeError("a secret of ours")
            return Reply(version="the new one", device="cpu")

    async def ask() -> None:
        supervisor, wanted, said = Failing(), asyncio.Event(), asyncio.Queue[str]()
        reload = partial(_reload, cast(Supervisor, supervisor), said.put_nowait)
        heard = asyncio.create_task(_reload_when(wanted, reload))
        wanted.set()
        assert "the log says why" in await said.get()
        transport = httpx.ASGITransport(create_admin_app(reload, None))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            failed = await client.post("/admin/reload")
        assert (failed.status_code, failed.json()["error"]["code"]) == (500, "internal")
        assert "secret" not in failed.text
        assert caplog.text.count("RuntimeError: a secret of ours") == 2
        assert "the log says why" in await said.get()
        wanted.set()
        assert "the new one" in await said.get()
        heard.cancel()

    asyncio.run(asyncio.wait_for(ask(), PATIENCE))


def test_it_is_heard_though_nobody_listens_to_what_it_says(tmp_path: Path, link: Path) -> None:
    with running(tmp_path, link) as service:
        assert service.process.stdout
        service.process.stdout.close()
        with service.client() as client:
            for bundle in ("dot-bias", "dot", "dot-bias"):
                point(link, FIXTURES / bundle)
                service.signal(signal.SIGHUP)
                wait_until(lambda bundle=bundle: ready_version(client) == version_of(bundle))
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
        assert "Traceback" not in service.log()


def test_a_manifest_that_is_a_pipe_holds_nobody_up(tmp_path: Path, link: Path) -> None:
    hostile = tmp_path / "hostile"
    shutil.copytree(FIXTURES / "dot-bias", hostile)
    (hostile / "manifest.json").unlink()
    os.mkfifo(hostile / "manifest.json")
    with running(tmp_path, link, "--admin-port", "0") as service:
        for target in (hostile, hostile / "manifest.json"):
            point(link, target)
            response = httpx.post(f"{service.admin_url}/admin/reload", timeout=PATIENCE)
            assert response.status_code == 409
            assert "not a regular file" in response.json()["error"]["message"]
        point(link, FIXTURES / "dot-bias")
        assert httpx.post(f"{service.admin_url}/admin/reload", timeout=PATIENCE).status_code == 200


def test_a_model_that_answers_no_more_is_gone_at_once() -> None:
    """By itself, not when the collector looks for cycles: a service that is idle hardly ever does."""
    first = load_model(FIXTURES / "dot", "cpu", 1)
    gone = weakref.ref(first)

    async def ask_and_swap(model: Model) -> None:
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


def test_an_error_of_any_length_is_the_reply_to_its_own_order(tmp_path: Path, link: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(FIXTURES / "dot", bad)
    manifest = json.loads((bad / "manifest.json").read_bytes())
    manifest["files"]["x/" + 3_000_000 * "y"] = {"sha256": 64 * "0", "bytes": 1}
    (bad / "manifest.json").write_text(json.dumps(manifest))
    with running(tmp_path, link, "--admin-port", "0") as service, service.client() as client:

        def reload(target: Path) -> tuple[int, str]:
            point(link, target)
            response = httpx.post(f"{service.admin_url}/admin/reload", timeout=PATIENCE)
            assert len(response.content) < 10_000
            return response.status_code, ready_version(client)

        for _ in range(2):
            assert reload(bad) == (409, version_of("dot"))
        assert reload(FIXTURES / "dot-bias") == (200, version_of("dot-bias"))
        assert reload(tmp_path) == (409, version_of("dot-bias"))
        assert reload(FIXTURES / "dot") == (200, version_of("dot"))
