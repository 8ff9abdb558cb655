"""What every test folder shares. Nothing here may import torch: tests/serve also runs without it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import numpy as np
import pytest

# Whatever a test imports first; see serve/__init__.py.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Who starts the tests in the background of a script has them ignore Ctrl-C, and what they start does, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A slow machine is no failure.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--only-gpu-skips",
        action="store_true",
        help="Fail if a test was skipped for anything but a missing GPU (as CI does).",
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and item.config.getoption("--only-gpu-skips") and not item.get_closest_marker("gpu"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, where only tests marked `gpu` may be: {reason}"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
