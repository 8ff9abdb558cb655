"""A built page behind a plain file server, and a real Chromium to look at it."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright
from runtimes_table import BUNDLES

from demos.browser.build import build

# Of the repository, also where the package is installed as a wheel.
PACKAGES = Path(__file__).parents[3] / "demos" / "browser" / "node_modules"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# WebGPU in software, where there is no GPU: Chromium's own SwiftShader.
SOFTWARE_WEBGPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")


class Page:
    """A built page, served."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        requests = self.requests

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, template: str, *arguments: object) -> None:
                requests.append(self.path)

        handler = functools.partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="session")
def serve_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Page]]:
    """Build and serve the page of a bundle, each once."""
    if not PACKAGES.exists():
        pytest.skip("run `npm ci --prefix demos/browser` for what the page needs")
    pages: dict[Path, Page] = {}

    def get(bundle: Path) -> Page:
        if bundle not in pages:
            folder = tmp_path_factory.mktemp("page") / "dist"
            build(bundle, folder, PACKAGES)
            pages[bundle] = Page(folder)
        return pages[bundle]

    yield get
    for page in pages.values():
        page.close()


@pytest.fixture(scope="session")
def page_of(serve_page: Callable[[Path], Page]) -> Callable[[str], Page]:
    """The page of one of the small bundles."""
    return lambda model: serve_page(BUNDLES[model])


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium (set CHROMIUM to its path)")
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, "--disable-gpu"])
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def chromium_with_webgpu(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *SOFTWARE_WEBGPU])
    yield browser
    browser.close()
