"""Holds the listening socket, keeps the workers alive, and tells them which bundle to serve.

A reload has two steps, so that a bad bundle changes nothing: every worker loads and checks it beside the old
one; only when all have, all swap. A worker that dies is started again, with the bundle that was last served.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from prometheus_client.multiprocess import mark_process_dead

from serve import errors
from serve.http.control import MAX_LINE_BYTES, Order, Reply, Start, say
from serve.http.metrics import FOLDER_VARIABLE
from serve.http.pointer import resolve
from serve.http.settings import Settings

logger = logging.getLogger(__name__)

# Between two starts of a worker that keeps dying.
RESTART_SECONDS = 1.0
# Over the grace time, before a worker that has not stopped is killed.
KILL_SECONDS = 2.0


@dataclass(eq=False)
class Worker:
    """A worker process, seen from here."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, order: Order) -> Reply:
        """Give an order and wait for the reply. A worker that dies meanwhile is a reply, too."""
        try:
            await say(self.writer, order)
            line = await self.reader.readline()
        except ConnectionError:
            line = b""
        if not line:
            return Reply(error="a worker process died", kind="BundleError")
        return msgspec.json.decode(line, type=Reply)


class Supervisor:
    """The workers of one service."""

    def __init__(self, settings: Settings, n_workers: int, listener: socket.socket, scratch: Path) -> None:
        self.settings, self.n_workers = settings, n_workers
        self.listener, self.scratch = listener, scratch
        self.bundle: Path | None = None
        """The folder that is served, every link resolved: a restarted worker serves it too."""
        self.workers: list[Worker] = []
        self._changing = asyncio.Lock()
        self._watchers: set[asyncio.Task[None]] = set()

    async def start(self) -> Reply:
        """Start every worker; returns when all are ready.

        Raises:
            BundleError, DeviceError: as the workers found.
        """
        async with self._changing:
            self.bundle = resolve(self.settings.bundle)
            workers = await asyncio.gather(*(self._spawn(at_once=True) for _ in range(self.n_workers)))
            replies = await asyncio.gather(*(self._load_first(worker) for worker in workers))
            _raise_first(replies)
            for worker in workers:
                self._watch(worker)
            return replies[0]

    async def reload(self) -> Reply:
        """Serve what the pointer leads to now, or go on as before.

        Raises:
            BundleError, DeviceError: nothing was changed, for this reason.
        """
        async with self._changing:
            folder = resolve(self.settings.bundle)
            workers = list(self.workers)
            if not workers:
                raise errors.BundleError("every worker has died, and others are being started. Try again.")
            load = Order("load", str(folder))
            replies = await asyncio.gather(*(worker.ask(load) for worker in workers))
            if any(reply.error for reply in replies):
                await asyncio.gather(*(worker.ask(Order("drop")) for worker in workers))
                _raise_first(replies)
            self.bundle = folder
            await asyncio.gather(*(worker.ask(Order("swap")) for worker in workers))
            return replies[0]

    async def stop(self, *, at_once: bool) -> None:
        """Have every worker finish what it has, and end; kill those that don't.

        Args:
            at_once: Without the time in which load balancers notice.
        """
        self.listener.close()
        for task in self._watchers:
            task.cancel()
        workers = list(self.workers)
        for worker in workers:
            with contextlib.suppress(ConnectionError):
                await say(worker.writer, Order("stop", at_once=at_once))
        drain = 0.0 if at_once else self.settings.drain_seconds
        try:
            async with asyncio.timeout(drain + self.settings.grace_seconds + KILL_SECONDS):
                await asyncio.gather(*(worker.process.wait() for worker in workers))
        except TimeoutError:
            logger.error("not every worker stopped in time")
        finally:
            for worker in workers:
                if worker.process.returncode is None:
                    worker.process.kill()
                worker.writer.close()

    async def _spawn(self, *, at_once: bool) -> Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "serve.http.worker",
                str(self.listener.fileno()),
                str(theirs.fileno()),
                pass_fds=(self.listener.fileno(), theirs.fileno()),
                env=os.environ | {FOLDER_VARIABLE: str(self.scratch)},
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE_BYTES)
        settings = replace(self.settings, bundle=self.bundle or Path()).to_dict()
        await say(writer, Start(settings, accept_at_once=at_once))
        worker = Worker(process, reader, writer)
        self.workers.append(worker)
        return worker

    async def _load_first(self, worker: Worker) -> Reply:
        reply = await worker.ask(Order("load", str(self.bundle)))
        return reply if reply.error else await worker.ask(Order("swap"))

    def _watch(self, worker: Worker) -> None:
        task = asyncio.create_task(self._replace_when_dead(worker))
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)

    async def _replace_when_dead(self, worker: Worker) -> None:
        code = await worker.process.wait()
        self.workers.remove(worker)
        worker.writer.close()
        mark_process_dead(worker.process.pid, str(self.scratch))  # type: ignore[no-untyped-call]
        logger.error("worker %d ended with %d; starting another", worker.process.pid, code)
        async with self._changing:
            # Beside others that are ready, it takes no connection that it would have to turn away.
            successor = await self._spawn(at_once=not self.workers)
            reply = await self._load_first(successor)
        self._watch(successor)
        if reply.error:
            logger.error("worker %d can't serve: %s", successor.process.pid, reply.error)
            await asyncio.sleep(RESTART_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                successor.process.kill()


def _raise_first(replies: list[Reply]) -> None:
    """Raise what a worker found, as the error that it was."""
    for reply in replies:
        if reply.error:
            kind = getattr(errors, reply.kind or "", None)
            if isinstance(kind, type) and issubclass(kind, errors.ServeError):
                raise kind(reply.error)
            raise errors.BundleError(reply.error)
