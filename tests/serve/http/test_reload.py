"""The bundle changes under a running service: nothing fails, nothing is mixed, a bad one changes nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import numpy as np
import pytest
from fixture_bundles import FIXTURES
from patience import PATIENCE, wait_until

from serve.errors import BundleError
from serve.http import supervisor as supervising
from serve.http.admin import create_admin_app
from serve.http.control import Reply
from serve.http.server import bind
from serve.http.service import _reload, _reload_when
from serve.http.settings import Settings
from serve.http.supervisor import RESTART_SECONDS, Supervisor
from serve.recommender import Recommender

from .conftest import Service, running

N_SWAPS = 100
USERS = [10, 50, 120, 300]
ITEMS = [1001, 1010, 1033]
TOLERANCE = 1e-5


def point(link: Path, target: Path) -> None:
    """Move a link in one step."""
    new = link.with_name("new-link")
    new.symlink_to(target)
    new.replace(link)


@pytest.fixture
def link(tmp_path: Path) -> Path:
    path = tmp_path / "current"
    path.symlink_to(FIXTURES / "dot")
    return path


@cache
def version_of(bundle: str) -> str:
    return Recommender.load(FIXTURES / bundle, "cpu").bundle.version


def ready_version(client: httpx.Client) -> str:
    version: str = client.get("/health/ready").json()["model_version"]
    return version


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
        lying(tmp_path): "golden rows",
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
    """A whole bundle with right checksums, whose graphs do not answer as its golden rows say."""
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


def test_a_worker_that_dies_is_replaced_with_what_was_served(tmp_path: Path, link: Path) -> None:
    with running(tmp_path, link, "--workers", "2") as service:
        # The link has moved on, but nobody has said so: the new worker serves what the other does.
        point(link, FIXTURES / "dot-bias")
        first = service.children()
        assert len(first) == 2
        os.kill(first[0], signal.SIGKILL)
        wait_until(lambda: first[0] not in service.children() and len(service.children()) == 2)
        new = next(pid for pid in service.children() if pid not in first)
        os.kill(first[1], signal.SIGKILL)

        def answered_by_the_new() -> bool:
            try:
                with service.client() as client:
                    return client.get("/health/ready").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answered_by_the_new)
        wait_until(lambda: len(service.children()) == 2)
        assert new in service.children()
        with service.client() as client:
            assert ready_version(client) == version_of("dot")
        assert "starting another" in service.log()


def test_a_worker_that_replaces_another_turns_nobody_away(tmp_path: Path, link: Path) -> None:
    with running(tmp_path, link, "--workers", "2") as service:
        first = service.children()
        os.kill(first[0], signal.SIGKILL)
        statuses: set[int] = set()
        end = None
        while end is None or time.monotonic() < end:
            try:
                statuses.add(httpx.get(f"{service.url}/v1/model").status_code)
            except httpx.TransportError:  # it was the dead one's
                continue
            if end is None and len(set(service.children()) - {first[0]}) == 2:
                end = time.monotonic() + 2.0
        assert statuses == {200}


def test_reloads_while_no_worker_is_left_change_nothing(tmp_path: Path, link: Path) -> None:
    (tmp_path / "empty").mkdir()
    with running(tmp_path, link, "--admin-port", "0") as service, ThreadPoolExecutor(8) as pool:
        point(link, tmp_path / "empty")
        (only,) = service.children()
        os.kill(only, signal.SIGSTOP)  # so that all of them wait for its answer
        reload = f"{service.admin_url}/admin/reload"
        asked = [pool.submit(httpx.post, reload, timeout=PATIENCE) for _ in range(8)]
        time.sleep(0.5)
        os.kill(only, signal.SIGKILL)
        assert {response.result().status_code for response in asked} == {409}

        def ready() -> bool:
            try:
                with service.client() as client:
                    return ready_version(client) == version_of("dot")
            except (httpx.TransportError, AssertionError, KeyError):
                return False

        wait_until(ready)
        assert "Traceback" not in service.log()


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


def test_workers_that_die_at_once_and_forks_that_fail_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervising, "RESTART_SECONDS", 0.01)
    spawn, say, forks = asyncio.create_subprocess_exec, supervising.say, []

    async def failing_spawn(*args: Any, **options: Any) -> Any:
        forks.append(len(args))
        if len(forks) in (2, 3):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return await spawn(*args, **options)

    async def late_say(writer: asyncio.StreamWriter, order: Any) -> None:
        if supervisor.CODE == "raise SystemExit(7)":
            await asyncio.sleep(0.3)  # it is dead by then
        await say(writer, order)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", failing_spawn)
    monkeypatch.setattr(supervising, "say", late_say)

    async def die_and_live() -> None:
        (first,) = supervisor.workers
        supervisor.CODE = "raise SystemExit(7)"  # type: ignore[misc]
        first.process.kill()
        while caplog.text.count("ended with 7") < 2:
            await asyncio.sleep(0.01)
        del supervisor.CODE
        while not (supervisor.workers and supervisor.workers[0].serves):
            await asyncio.sleep(0.01)

    async def main() -> None:
        await supervisor.start()
        try:
            await die_and_live()
        finally:
            await supervisor.stop(at_once=True)

    with bind("127.0.0.1", 0) as listener:
        settings = Settings(bundle=FIXTURES / "dot", device="cpu", threads=1)
        supervisor = Supervisor(settings, 1, listener, tmp_path)
        asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert caplog.text.count("no worker can be started") == 2


def test_reloads_are_answered_while_no_worker_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervising, "RESTART_SECONDS", 0.01)
    spawn, can_fork = asyncio.create_subprocess_exec, True

    async def spawn_or_fail(*args: Any, **options: Any) -> Any:
        if not can_fork:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return await spawn(*args, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", spawn_or_fail)

    async def main() -> None:
        nonlocal can_fork
        await supervisor.start()
        try:
            can_fork = False
            supervisor.workers[0].process.kill()
            while "no worker can be started" not in caplog.text:
                await asyncio.sleep(0.01)
            with pytest.raises(BundleError, match="Try again"):
                await supervisor.reload()
            can_fork = True
            while not (supervisor.workers and supervisor.workers[0].serves):
                await asyncio.sleep(0.01)
            assert (await supervisor.reload()).version
        finally:
            await supervisor.stop(at_once=True)

    with bind("127.0.0.1", 0) as listener:
        settings = Settings(bundle=FIXTURES / "dot", device="cpu", threads=1)
        supervisor = Supervisor(settings, 1, listener, tmp_path)
        asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_worker_that_replaces_another_never_mixes_versions(tmp_path: Path) -> None:
    """The folder was written anew in its place, as an export with --overwrite does."""
    served = tmp_path / "served"
    shutil.copytree(FIXTURES / "dot", served)
    with running(tmp_path, served, "--workers", "2") as service:
        first = service.children()
        served.rename(tmp_path / "old")
        shutil.copytree(FIXTURES / "dot-bias", served)
        os.kill(first[0], signal.SIGKILL)
        wait_until(lambda: "every worker changes over" in service.log())
        wait_until(lambda: first[0] not in service.children() and len(service.children()) == 2)

        def versions() -> set[str]:
            found = set()
            for _ in range(20):  # a connection each, so either worker
                with suppress(httpx.TransportError), service.client() as client:
                    found.add(ready_version(client))
            return found

        wait_until(lambda: versions() == {version_of("dot-bias")})


def test_a_worker_that_a_reload_has_helped_is_left_alone(
    tmp_path: Path, link: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(FIXTURES / "dot", bundle)
    point(link, bundle)
    with running(tmp_path, link, "--admin-port", "0") as service:
        shutil.rmtree(bundle)
        (only,) = service.children()
        os.kill(only, signal.SIGKILL)
        point(link, FIXTURES / "dot-bias")
        wait_until(
            lambda: httpx.post(f"{service.admin_url}/admin/reload", timeout=PATIENCE).status_code == 200
        )
        helped = service.children()
        time.sleep(2 * RESTART_SECONDS)
        assert service.children() == helped
        with service.client() as client:
            assert ready_version(client) == version_of("dot-bias")


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
            assert "no plain file" in response.json()["error"]["message"]
        point(link, FIXTURES / "dot-bias")
        assert httpx.post(f"{service.admin_url}/admin/reload", timeout=PATIENCE).status_code == 200
