"""A built page behind a plain file server."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runtimes_table import WITH_SHARDS
from tabs import PACKAGES

from demos.browser.build import build


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
            build(bundle, folder, PACKAGES)
            pages[bundle] = Page(folder)
        return pages[bundle]

    yield get
    for page in pages.values():
        page.server.shutdown()
        page.server.server_close()


@pytest.fixture(scope="session")
def page_of(serve_page: Callable[[Path], Page]) -> Callable[[str], Page]:
    """The page of one of the small bundles."""
    return lambda model: serve_page(WITH_SHARDS[model])
