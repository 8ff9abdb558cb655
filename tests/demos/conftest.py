"""A real Chromium for the pages.

Of a module's own: a Playwright that runs keeps an event loop in the thread, so that no later test could
have one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

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
    """A browser whose pages may take their time."""
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
