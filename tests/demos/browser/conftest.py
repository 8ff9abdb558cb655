"""A built page behind a plain file server."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from runtimes_table import WITH_SHARDS
from tabs import PACKAGES

from demos.browser.build import build


class Page:
    """A built page, served."""

    def __init__(self, folder: Path, first_list_bytes: int) -> None:
        self.folder = folder
        self.first_list_bytes = first_list_bytes
        self.requests: list[str] = []
        requests = self.requests

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, template: str, *arguments: object) -> None:
                requests.append(self.path)

        handler = functools.partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="session")
def serve_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Page]]:
    """Build and serve the page of a bundle, each once."""
    if not PACKAGES.exists():
        pytest.skip("run `npm ci --prefix demos/browser`")
    pages: dict[Path, Page] = {}

    def get(bundle: Path) -> Page:
        if bundle not in pages:
            folder = tmp_path_factory.mktemp("page") / "dist"
            pages[bundle] = Page(folder, build(bundle, folder, PACKAGES))
        return pages[bundle]

    yield get
    for page in pages.values():
        page.server.shutdown()
        page.server.server_close()


@pytest.fixture(scope="session")
def page_of(serve_page: Callable[[Path], Page]) -> Callable[[str], Page]:
    """The page of one of the small bundles."""
    return lambda model: serve_page(WITH_SHARDS[model])


@pytest.fixture
def open_page(open_tab):
    """Open a page and wait for its first answer."""

    def get(page: Any, ready: bool = True, **context: Any) -> Any:
        tab = open_tab(f"{page.url}/", **context)
        tab.wait_for_selector("main[aria-busy=false]")
        if ready:
            expect(tab.locator("#error")).to_be_hidden()
        return tab

    return get
