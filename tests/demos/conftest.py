"""A real Chromium for the pages, one for each module: Playwright keeps an event loop in the thread."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from patience import PATIENCE
from playwright.sync_api import Browser, Playwright, expect, sync_playwright

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


expect.set_options(timeout=1000 * PATIENCE)


def launch(playwright: Playwright, *options: str) -> Browser:
    """A browser without short timeouts."""
    browser = playwright.chromium.launch(
        executable_path=CHROMIUM, args=[*QUIET, *options], timeout=1000 * PATIENCE
    )
    browser.on("context", lambda context: context.set_default_timeout(1000 * PATIENCE))
    return browser


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium (set CHROMIUM to its path)")
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    browser = launch(playwright, "--disable-gpu")
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def chromium_with_webgpu(playwright: Playwright) -> Iterator[Browser]:
    browser = launch(playwright, *SOFTWARE_WEBGPU)
    yield browser
    browser.close()


@pytest.fixture
def open_tab(chromium: Browser) -> Iterator[Callable[..., Any]]:
    """Open a URL in a tab. The tab may request nothing but what is below the URL, and throw no error."""
    tabs = []

    def get(url: str, *, silent: bool = False, **context: Any) -> Any:
        tab = chromium.new_page(**context)
        problems: list[str] = []
        tabs.append((tab, problems))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("dialog", lambda dialog: problems.append(dialog.message))
        if silent:
            tab.on("console", lambda message: problems.append(message.text))

        def route(call: Any) -> None:
            if call.request.url.startswith(url):
                call.continue_()
            else:
                problems.append(f"requested {call.request.url}")
                call.abort()

        tab.route("**/*", route)
        tab.goto(url)
        return tab

    yield get
    for tab, problems in tabs:
        assert not problems
        tab.close()
