"""How long tests wait for what should come soon: machines stall, and only a hang should be a failure."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 180.0
"""Seconds. Nothing here takes as long; it only keeps a hang from being one for ever."""


def wait_until(condition: Callable[[], Any]) -> Any:
    """The first true value of `condition`, asked again and again."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.005)
    return value
