"""Real `recsys serve` processes, and the app in this process where a socket would prove nothing more."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from fixture_bundles import FIXTURES
from patience import PATIENCE

from serve.http.app import create_app
from serve.http.model import CurrentModel, LoadedModel, load_model
from serve.http.settings import ServiceSettings
from serve.runtime.recommender import Recommender


@dataclass
class Service:
    """A running `recsys serve`."""

    process: subprocess.Popen[str]
    errors: IO[str]
    url: str

    @property
    def address(self) -> tuple[str, int]:
        url = httpx.URL(self.url)
        assert url.port is not None
        return url.host, url.port

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE, **options)

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        with killed_at_last(self.process):
            return self.process.stdout.readline()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def interrupt(self) -> None:
        """Ctrl-C, which a terminal sends to every process of the group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self) -> int:
        """Its exit code; one that hangs prints its stacks."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # see PYTHONFAULTHANDLER below
            self.process.wait(PATIENCE)
            pytest.fail(f"recsys serve did not end: {self.log()}")

    def log(self) -> str:
        self.errors.seek(0)
        return self.errors.read()

    def children(self) -> list[int]:
        """The process ids of its workers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split() if is_worker(int(pid))]


def is_worker(pid: int) -> bool:
    """Beside the workers, multiprocessing has a process of its own."""
    with suppress(OSError):
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


@contextmanager
def killed_at_last(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill a process that prints nothing for `PATIENCE`, so that reading from it ends."""
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


@contextmanager
def running(
    folder: Path,
    bundle: Path,
    *options: str,
    token: str | None = None,
    port: str = "0",
    program: Sequence[str] = ("-m", "recsys"),
) -> Iterator[Service]:
    """A service on a free port, with what it needs in `folder`; stopped at the end, whatever happened."""
    env = {name: value for name, value in os.environ.items() if name != "RECSYS_TOKEN"}
    env["PYTHONFAULTHANDLER"] = "1"
    if token is not None:
        env["RECSYS_TOKEN"] = token
    command = [sys.executable, *program, "serve", str(bundle), "--port", port, *options]
    with (folder / "stderr.txt").open("a+") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=env, start_new_session=True
        )
        try:
            assert process.stdout is not None
            said = []
            with killed_at_last(process):
                for line in process.stdout:
                    said.append(line)
                    if line.startswith("Serving "):
                        break
            found = re.search(r"http://\S+:\d+", said[-1]) if said else None
            if found is None:
                errors.seek(0)
                pytest.fail(f"recsys serve did not start: {said} {errors.read()}")
            yield Service(process, errors, found.group())
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
                process.wait()
                process.stdout.close()  # type: ignore[union-attr]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that many tests share; none may reload or stop it."""
    with running(tmp_path_factory.mktemp("service"), FIXTURES / "dot-bias") as started:
        yield started


@cache
def _model(bundle: Path) -> LoadedModel:
    return load_model(bundle, "cpu", 1)


def app_client(bundle: Path, *, current: CurrentModel | None = None, **settings: Any) -> httpx.AsyncClient:
    """A client of the app in this process."""
    current = current or CurrentModel(_model(bundle))
    app = create_app(ServiceSettings(bundle=bundle, device="cpu", **settings), current)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


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
