"""Loads that wrk does not make, over HTTP/1.1: an open loop, and a connection for each request.

Open loop: requests at a fixed rate whatever the answers do, as the world sends them; latency counts from the
moment a request was due, so that a server that falls behind can't hide it, and beside that from the moment it
was sent. Requests that the generator itself is too late for are left out and counted: sent all at once after
a stall, they would be a burst that nobody asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

# A request that the generator would send later than this, in seconds, is left out.
LATEST = 0.005


@dataclass
class Tally:
    """What came back: status -> seconds of each answer."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    """Since a request was due."""
    seconds_since_sent: dict[int, list[float]] = field(default_factory=dict)
    """Since it was sent (open loop only)."""
    lateness: list[float] = field(default_factory=list)
    """Seconds from due to sent, of every request that was (open loop)."""
    n_failed: int = 0
    """Requests without an answer: connections refused or closed."""
    n_unsent: int = 0
    """Requests that were due when every connection was busy (open loop)."""
    n_late: int = 0
    """Requests that the generator was too late for (open loop)."""
    elapsed: float = 0.0

    def count(self, status: int) -> int:
        return len(self.seconds.get(status, ()))

    def rate(self, status: int) -> float:
        """Answers of this status a second."""
        return self.count(status) / self.elapsed

    def percentile(self, status: int, percent: float) -> float:
        """Seconds; NaN where there were none."""
        return percentile(self.seconds.get(status, ()), percent)


def percentile(values: Iterable[float], percent: float) -> float:
    """The value that `percent` of them do not exceed; NaN where there are none."""
    taken = sorted(values)
    return taken[min(len(taken) - 1, int(len(taken) * percent / 100))] if taken else float("nan")


def post(path: str, body: bytes) -> bytes:
    """The bytes of a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection(asyncio.Protocol):
    """One request at a time; tells `answered` the status of each, or None if the connection broke."""

    def __init__(self, answered: Callable[[Connection, int | None], None]) -> None:
        self.answered = answered
        self.transport: asyncio.Transport | None = None
        self.due = 0.0
        self.sent = 0.0
        self.busy = False
        self._data = b""
        self._needed: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def send(self, request: bytes, due: float, sent: float) -> None:
        self.due, self.sent, self.busy = due, sent, True
        assert self.transport is not None
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._needed is None:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._data[:end].lower()
            start = head.index(b"content-length:") + 15
            stop = head.find(b"\r\n", start)
            self._needed = end + 4 + int(head[start : stop if stop > 0 else end])
        if len(self._data) >= self._needed:
            status = int(self._data[9:12])
            self._data, self._needed, self.busy = b"", None, False
            self.answered(self, status)

    def connection_lost(self, error: Exception | None) -> None:
        if self.busy:
            self.busy = False
            self.answered(self, None)


async def _connect(
    n: int, host: str, port: int, answered: Callable[[Connection, int | None], None]
) -> list[Connection]:
    loop = asyncio.get_running_loop()
    connections = []
    for _ in range(n):
        _, connection = await loop.create_connection(lambda: Connection(answered), host, port)
        connections.append(connection)
    return connections


async def fresh_connections(
    host: str, port: int, requests: Iterator[bytes], *, rate: float, seconds: float
) -> Tally:
    """`rate` requests a second, each over a connection of its own: clients that don't keep theirs."""
    tally, clock = Tally(), time.perf_counter
    loop = asyncio.get_running_loop()

    def answered(connection: Connection, status: int | None) -> None:
        if status is None:
            tally.n_failed += 1
            return
        tally.seconds.setdefault(status, []).append(clock() - connection.due)
        assert connection.transport is not None
        connection.transport.abort()

    async def ask(due: float) -> None:
        try:
            _, connection = await loop.create_connection(lambda: Connection(answered), host, port)
        except OSError:
            tally.n_failed += 1
            return
        connection.send(next(requests), due, clock())
        while connection.busy:
            await asyncio.sleep(0.02)

    asking: set[asyncio.Task[None]] = set()
    start, n_all = clock(), int(rate * seconds)
    for number in range(n_all):
        due = start + number / rate
        while (early := due - clock()) > 0:
            await asyncio.sleep(min(early, 0.0005))
        if clock() - due > LATEST:
            tally.n_late += 1
            await asyncio.sleep(0)
            continue
        asking.add(task := loop.create_task(ask(due)))
        task.add_done_callback(asking.discard)
    tally.elapsed = clock() - start
    if asking:
        await asyncio.wait(asking, timeout=30)
    return tally


async def open_loop(
    host: str, port: int, requests: Iterator[bytes], *, rate: float, n_connections: int, seconds: float
) -> Tally:
    """`rate` requests a second over up to `n_connections` connections."""
    tally, clock = Tally(), time.perf_counter

    def answered(connection: Connection, status: int | None) -> None:
        if status is None:
            tally.n_failed += 1
            return
        now = clock()
        tally.seconds.setdefault(status, []).append(now - connection.due)
        tally.seconds_since_sent.setdefault(status, []).append(now - connection.sent)
        idle.append(connection)

    connections = await _connect(n_connections, host, port, answered)
    idle = deque(connections)
    start = clock()
    n_due, n_all = 0, int(rate * seconds)
    while n_due < n_all:
        due_now = min(n_all, int((clock() - start) * rate) + 1)
        for number in range(n_due, due_now):
            due, now = start + number / rate, clock()
            if now - due > LATEST:
                tally.n_late += 1
            elif idle:
                tally.lateness.append(now - due)
                idle.popleft().send(next(requests), due, now)
            else:
                tally.n_unsent += 1
        n_due = due_now
        # Not a busy loop: the answers have to be read, too.
        await asyncio.sleep(0.0005)
    tally.elapsed = clock() - start
    await _finish(connections, clock())
    return tally


async def _finish(connections: Sequence[Connection], end: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(end - time.perf_counter() + 30):
            while time.perf_counter() < end or any(connection.busy for connection in connections):
                await asyncio.sleep(0.01)
    for connection in connections:
        assert connection.transport is not None
        connection.busy = False
        connection.transport.abort()
