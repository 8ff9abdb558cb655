"""Pages of several bundles, served by a real process."""

from __future__ import annotations

import os
import selectors
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixture_bundles import FIXTURES, RAW_ID_FIXTURES, edit_manifest
from patience import PATIENCE
from playwright.sync_api import expect
from tabs import HOSTILE

from serve import Recommender
from serve.bundle.ids import write_items, write_users

# One process, since importing gradio takes most of a start. The first page is Gradio's app without our guard.
SERVE = """
import signal, sys
from contextlib import ExitStack
from demos.gradio_app.app import build_app, mounted, served
from demos.gradio_app.guard import guarded
from serve import Recommender
from serve.processes.listener import bind
from serve.processes.signals import Signals

signals = Signals(signal.SIGTERM)
with ExitStack() as stack:
    for place, paths in enumerate(sys.argv[1:]):
        app = mounted(build_app(*(Recommender.load(path, "cpu") for path in paths.split("|"))))
        if place > 0:
            app = guarded(app, ["other.example", "recommender.example"])
        print(stack.enter_context(served(app, bind("127.0.0.1"))), flush=True)
    signals.next()
"""


def next_line(process: subprocess.Popen[bytes]) -> str:
    """A line of stdout, or "" at its end, in bounded time. Unbuffered: a line may hide from `select`."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(PATIENCE), f"the process printed nothing for {PATIENCE:g} s"
    return process.stdout.readline().decode().strip()


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
    edit_manifest(path)
    return path


def make_bare(path: Path) -> Path:
    """A bundle without titles, genres and profiles."""
    shutil.copytree(FIXTURES / "dot", path)
    for name in ("items.parquet", "profiles.json"):
        (path / name).unlink()
    write_items(path / "items.parquet", [1000 + place for place in range(1, 51)])
    edit_manifest(path, lambda manifest: manifest["files"].pop("profiles.json"))
    return path


def make_without_seen(path: Path) -> Path:
    """A bundle without what users have rated."""
    shutil.copytree(FIXTURES / "parts", path)
    (path / "seen.parquet").unlink()

    def leave_out(manifest: dict[str, Any]) -> None:
        manifest["without_seen"] = True
        del manifest["files"]["seen.parquet"]

    edit_manifest(path, leave_out)
    return path


class Page:
    """A served page and its bundle, or two of them."""

    def __init__(self, bundles: str, url: str, temp: Path, log: Path) -> None:
        self.url = url
        self.recommender, *self.others = (Recommender.load(path, "cpu") for path in bundles.split("|"))
        self.temp, self.log = temp, log
        """The temporary folder and the standard error of its process."""


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Page]]:
    """Pages by name. Their process must end when it is told to, and leave no temporary files."""
    folder = tmp_path_factory.mktemp("pages")
    paths = {
        "unguarded": FIXTURES / "dot",
        "dot-bias": FIXTURES / "dot-bias",
        "mlp": FIXTURES / "mlp",
        "hostile": make_hostile(folder / "hostile"),
        "bare": make_bare(folder / "bare"),
        "without seen": make_without_seen(folder / "without seen"),
        "pair": f"{RAW_ID_FIXTURES / 'parts'}|{FIXTURES / 'dot-bias'}",
    }
    paths = {name: str(path) for name, path in paths.items()}
    temp, log = folder / "temp", folder / "log"
    temp.mkdir()
    with log.open("wb") as stderr:
        running = subprocess.Popen(
            [sys.executable, "-c", SERVE, *paths.values()],
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,
            env={**os.environ, "TMPDIR": str(temp)},
        )
    try:
        yield {name: Page(path, next_line(running), temp, log) for name, path in paths.items()}
        running.terminate()
        assert running.wait(PATIENCE) == 0
        assert list(temp.iterdir()) == []
    finally:
        running.kill()
        running.communicate()


@pytest.fixture
def open_page(open_tab: Callable[..., Any], pages: dict[str, Page]) -> Callable[..., Any]:
    """Open a page by name, and wait for its first list."""

    def get(name: str, **context: Any) -> Any:
        tab = open_tab(f"{pages[name].url}/", **context)
        expect(tab.locator("#picks .items li").first).to_be_visible()
        return tab

    return get
