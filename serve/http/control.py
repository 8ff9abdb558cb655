"""What the supervisor and its workers say to each other: one JSON object a line, over a socket pair.

To a worker: its settings first; then `load` (a bundle beside the one that answers), `swap` (to what was
loaded), `drop` (what was loaded), `stop`. A worker answers each of `load`, `swap` and `drop` with a `Reply`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import msgspec

MAX_LINE_BYTES = 1 << 20
MAX_ERROR_CHARACTERS = 4000
"""What is wrong with a bundle may quote what stands in it."""


class Start(msgspec.Struct, frozen=True, tag=True):
    """The first line."""

    settings: dict[str, Any]
    """`Settings.to_dict`."""
    accept_at_once: bool
    """Whether to answer before the first model is there: live, but not ready."""


class Order(msgspec.Struct, frozen=True, tag=True):
    """What a worker is to do."""

    do: Literal["load", "swap", "drop", "stop"]
    bundle: str | None = None
    """Of `load`: a folder, every link on the way resolved."""
    at_once: bool = False
    """Of `stop`: without the time in which load balancers notice."""


class Reply(msgspec.Struct, frozen=True):
    """How it went."""

    version: str | None = None
    """The model that was loaded, or answers now."""
    device: str | None = None
    error: str | None = None
    kind: str | None = None
    """The name of the error's class."""


async def say(writer: asyncio.StreamWriter, message: msgspec.Struct) -> None:
    """Send one line."""
    writer.write(msgspec.json.encode(message) + b"\n")
    await writer.drain()
