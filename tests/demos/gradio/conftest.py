"""Pages of several bundles, served by real processes, and tabs of a browser that may ask nobody else."""

from __future__ import annotations

import os
import selectors
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fixture_bundles import FIXTURES
from patience import PATIENCE
from playwright.sync_api import Browser, expect

from serve.bundle.ids import write_items, write_users
from serve.runtime.recommender import Recommender

COMMAND = [sys.executable, "-c", "from recsys.cli import main; main()"]
# Several pages in one process: gradio takes most of the time of a start.
SERVE_SEVERAL = """
import signal, sys
from demos.gradio_app.app import Served, build_app
from serve.processes.listener import bind
from serve.runtime.recommender import Recommender
from serve.processes.signals import Signals

signals = Signals(signal.SIGTERM)
pages = []
for path in sys.argv[1:]:
    pages.append(Served(build_app(Recommender.load(path, "cpu")), bind("127.0.0.1")))
    print(pages[-1].url, flush=True)
signals.next()
for page in pages:
    page.close()
"""
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


def next_line(process: subprocess.Popen[bytes]) -> str:
    """A line of stdout, or the process' end, in bounded time. Unbuffered: a line may hide from `select`."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(PATIENCE), f"the process said nothing for {PATIENCE:g} s"
    return process.stdout.readline().decode().strip()


def relist(bundle: Path, *names: str) -> None:
    """Have the manifest list these files as they are now."""
    manifest = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    for name in names:
        data = (bundle / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": sha256(data).hexdigest()}
    (bundle / "manifest.json").write_bytes(msgspec.json.encode(manifest))


def make_hostile(path: Path) -> Path:
    """A bundle whose ids, titles and genres are markup."""
    shutil.copytree(FIXTURES / "dot-bias-string-ids", path)
    for name in ("items.parquet", "users.parquet"):
        (path / name).unlink()
    write_items(
        path / "items.parquet",
        [f"{HOSTILE}{place}" for place in range(50)],
        titles=[HOSTILE, *(f"Movie {place} \x00\u202e{HOSTILE}" for place in range(1, 50))],
        genres=["<b>bold</b>|&amp;"] * 50,
    )
    write_users(path / "users.parquet", [f"{HOSTILE}{place}" for place in range(30)])
    relist(path, "items.parquet", "users.parquet")
    return path


def make_bare(path: Path) -> Path:
    """A bundle that knows of its items but their ids."""
    shutil.copytree(FIXTURES / "dot", path)
    (path / "items.parquet").unlink()
    write_items(path / "items.parquet", [1000 + place for place in range(1, 51)])
    (path / "profiles.json").unlink()
    manifest = msgspec.json.decode((path / "manifest.json").read_bytes())
    del manifest["files"]["profiles.json"]
    (path / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    relist(path, "items.parquet")
    return path


class Served:
    """A page and what it should say."""

    def __init__(self, bundle: Path, url: str, temp: Path) -> None:
        self.bundle = bundle
        self.temp = temp
        """The temporary folder of its process."""
        self.url = url.rstrip("/")
        self.recommender = Recommender.load(bundle, "cpu")


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    """The page of `recsys demo`, and more pages by name.

    The processes must end when they are told to, and leave nothing in their temporary folder.
    """
    folder = tmp_path_factory.mktemp("bundles")
    paths = {
        "mlp": FIXTURES / "mlp",
        "string-ids": FIXTURES / "dot-bias-string-ids",
        "hostile": make_hostile(folder / "hostile"),
        "bare": make_bare(folder / "bare"),
    }
    main = FIXTURES / "dot-bias"
    temp = tmp_path_factory.mktemp("temp")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(temp)}
    # 127.1 is a name for 127.0.0.1 that every machine has.
    hosts = ["--host", "127.1", "--allow-host", "other.example", "--allow-host", "recommender.example"]
    commands = [
        [*COMMAND, "demo", str(main), "--port", "0", "--device", "cpu", *hosts],
        [sys.executable, "-c", SERVE_SEVERAL, *map(str, paths.values())],
    ]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0, env=environment) for command in commands
    ]
    try:
        url = next_line(running[0]).removesuffix(" (Ctrl-C stops)")
        found = {"dot-bias": Served(main, url, temp)}
        for name, path in paths.items():
            found[name] = Served(path, next_line(running[1]), temp)
        yield found
        for process in running:
            process.terminate()
        assert [process.wait(PATIENCE) for process in running] == [0, 0]
        assert list(temp.iterdir()) == []
    finally:
        for process in running:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def open_page(chromium: Browser, pages: dict[str, Served]) -> Iterator[Callable[..., Any]]:
    """Open a page; it may ask its own server alone, and throw no error."""
    contexts = []

    def get(name: str, **options: Any) -> Any:
        served = pages[name]
        context = chromium.new_context(**options)
        tab = context.new_page()
        problems: list[str] = []
        contexts.append((context, problems))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("dialog", lambda dialog: problems.append(f"dialog {dialog.message}"))

        def route(call: Any) -> None:
            if call.request.url.startswith(served.url + "/"):
                call.continue_()
            else:
                problems.append(f"asked for {call.request.url}")
                call.abort()

        context.route("**/*", route)
        tab.goto(served.url + "/")
        expect(tab.locator("#picks .items li").first).to_be_visible()
        return tab

    yield get
    for context, problems in contexts:
        assert not problems
        context.close()
