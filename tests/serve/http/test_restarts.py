"""Workers that die, and those that take their place."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fixture_bundles import FIXTURES
from patience import PATIENCE, wait_until

from serve.errors import BundleError
from serve.http import supervisor as supervising
from serve.http.settings import Settings
from serve.http.supervisor import RESTART_SECONDS, Supervisor
from serve.http.worker import Worker
from serve.processes.listener import bind

from .conftest import point, ready_version, running, version_of


def test_a_worker_that_dies_is_replaced_with_what_was_served(tmp_path: Path, link: Path) -> None:
    with running(tmp_path, link, "--workers", "2") as service:
        # The link has moved on, but nobody has said so: the new worker serves what the other does.
        point(link, FIXTURES / "dot-bias")
        first = service.children()
        assert len(first) == 2
        assert [os.getpgid(pid) for pid in first] == first, "a terminal's Ctrl-C is for the supervisor alone"
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


def supervised(
    folder: Path, talk: Callable[[Supervisor], Awaitable[None]], bundle: Path = FIXTURES / "dot"
) -> None:
    """One worker, supervised by this process for as long as `talk` takes."""

    async def main() -> None:
        await supervisor.start()
        try:
            await talk(supervisor)
        finally:
            await supervisor.stop(at_once=True)

    with bind("127.0.0.1", 0) as listener:
        settings = Settings(bundle=bundle, device="cpu", threads=1)
        supervisor = Supervisor(settings, 1, listener, folder)
        asyncio.run(asyncio.wait_for(main(), PATIENCE))


async def serves(supervisor: Supervisor) -> None:
    while not (supervisor.workers and supervisor.workers[0].serves):
        await asyncio.sleep(0.01)


def test_workers_that_die_at_once_and_forks_that_fail_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervising, "RESTART_SECONDS", 0.01)
    spawn, say, forks, processes = asyncio.create_subprocess_exec, supervising.say, [], []

    async def failing_spawn(*args: Any, **options: Any) -> Any:
        forks.append(len(args))
        if len(forks) in (2, 3):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        processes.append(await spawn(*args, **options))
        return processes[-1]

    async def late_say(writer: asyncio.StreamWriter, order: Any) -> None:
        if 1 < len(processes) < 4:  # those that die at once
            await processes[-1].wait()
        await say(writer, order)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", failing_spawn)
    monkeypatch.setattr(supervising, "say", late_say)

    async def die_and_live(supervisor: Supervisor) -> None:
        (first,) = supervisor.workers
        supervisor.CODE = "raise SystemExit(7)"  # type: ignore[misc]
        first.process.kill()
        while len(processes) < 3:
            await asyncio.sleep(0)
        del supervisor.CODE
        await serves(supervisor)

    supervised(tmp_path, die_and_live)
    assert caplog.text.count("ended with 7") == 2
    assert caplog.text.count("no worker can be started") == 2


def test_a_worker_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it goes on, and another takes its place."""

    async def hang(supervisor: Supervisor) -> None:
        (first,) = supervisor.workers
        first.process.send_signal(signal.SIGSTOP)
        with monkeypatch.context() as impatient:
            impatient.setattr(supervising, "ORDER_SECONDS", 0.1)
            with pytest.raises(BundleError, match=r"did not answer within 0\.1 s"):
                await supervisor.reload()
        while first in supervisor.workers:
            await asyncio.sleep(0.01)
        await serves(supervisor)
        assert (await supervisor.reload()).version

    supervised(tmp_path, hang)


def test_a_load_without_end_does_not_hold_up_the_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From a disk that does not answer, say; the thread that waits for it can't be stopped."""
    begun = tmp_path / "begun"

    async def stop_meanwhile(supervisor: Supervisor) -> None:
        waits = f"lambda *_, **__: open({str(begun)!r}, 'w').close() or time.sleep(3600)"
        patch = f"import time; import serve.http.worker as worker; worker.load_model = {waits}; main()"
        supervisor.CODE = supervisor.CODE.replace("main()", patch)  # type: ignore[misc]
        supervisor.workers[0].process.kill()
        while not begun.exists():
            await asyncio.sleep(0.01)

    supervised(tmp_path / "scratch", stop_meanwhile)
    assert "in time" not in caplog.text


def test_workers_that_never_serve_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervising, "RESTART_SECONDS", 0.01)
    scratch, bundle = tmp_path / "scratch", tmp_path / "bundle"
    shutil.copytree(FIXTURES / "dot", bundle)

    async def fail_and_recover(supervisor: Supervisor) -> None:
        bundle.rename(tmp_path / "moved")
        supervisor.workers[0].process.kill()
        while caplog.text.count("can't serve") < 3:
            await asyncio.sleep(0.01)
        (tmp_path / "moved").rename(bundle)
        await serves(supervisor)
        shutil.rmtree(scratch)  # as who tidies up /tmp does
        (last,) = supervisor.workers
        last.process.kill()
        while last in supervisor.workers:
            await asyncio.sleep(0.01)
        await serves(supervisor)
        (only,) = supervisor.workers
        assert {path.stem.rpartition("_")[2] for path in scratch.iterdir()} == {str(only.process.pid)}

    supervised(scratch, fail_and_recover, bundle)


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

    async def reload(supervisor: Supervisor) -> None:
        nonlocal can_fork
        can_fork = False
        supervisor.workers[0].process.kill()
        while "no worker can be started" not in caplog.text:
            await asyncio.sleep(0.01)
        with pytest.raises(BundleError, match="Try again"):
            await supervisor.reload()
        can_fork = True
        await serves(supervisor)
        assert (await supervisor.reload()).version

    supervised(tmp_path, reload)


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


def test_a_worker_ends_though_its_supervisor_was_killed_with_a_reply_unread() -> None:
    async def follow() -> None:
        ours, theirs = socket.socketpair()
        ours.send(b"a reply")
        theirs.close()  # which is no end for the other one, but an error: connection reset
        reader, writer = await asyncio.open_connection(sock=ours)
        worker = Worker(Settings(bundle=FIXTURES / "dot"), accept_at_once=True)
        await worker._follow(reader, writer)
        assert worker.current.draining
        writer.close()

    asyncio.run(follow())
