"""How long tests wait for something that should happen soon. Only a hang is a failure, not a slow machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 180.0
"""Seconds; far more than anything takes, to end a test that hangs."""


def wait_until(condition: Callable[[], Any]) -> Any:
    """Wait for a true value of `condition`, and return it."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.005)
    return value
