"""Holds the listening socket, keeps the workers alive, and tells them which bundle to serve.

A reload has two steps, so that a bad bundle changes nothing: every worker loads and checks it beside the old
one; only when all have, all swap. A worker that dies is started again, with the bundle that was last served.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
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
# For a large bundle from a slow disk; a worker that takes longer hangs, and would let nobody else be helped.
ORDER_SECONDS = 600.0
# Over the grace time, before a worker that has not stopped is killed.
KILL_SECONDS = 10.0


@dataclass(eq=False)
class Worker:
    """A worker process, seen from here."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    serves: bool = False
    """Whether it has ever had a bundle to answer from."""

    async def ask(self, order: Order) -> Reply:
        """Give an order and wait for the reply. A worker that dies meanwhile is a reply, too."""
        try:
            async with asyncio.timeout(ORDER_SECONDS):
                await say(self.writer, order)
                reply = msgspec.json.decode(await self.reader.readline(), type=Reply)
        except (ConnectionError, ValueError):
            self.kill()  # if it is not dead already: what it says next would be taken for the next reply
            return Reply(error="a worker process died. The log may say why.", kind="BundleError")
        except TimeoutError:
            self.kill()
            return Reply(error=f"a worker did not answer within {ORDER_SECONDS:g} s.", kind="BundleError")
        self.serves = self.serves or (order.do == "swap" and not reply.error)
        return reply

    def kill(self) -> None:
        """End it, if it has not ended by itself."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)  # Process.kill may reap it before asyncio does


class Supervisor:
    """The workers of one service."""

    # The same modules as ours, wherever those come from; never what lies in the folder where it is started.
    CODE = "import sys; sys.path[:] = sys.argv[3:]; from serve.http.worker import main; main()"

    def __init__(self, settings: Settings, n_workers: int, listener: socket.socket, scratch: Path) -> None:
        self.settings, self.n_workers = settings, n_workers
        self.listener, self.scratch = listener, scratch
        self.bundle: Path | None = None
        """The folder that is served, every link resolved: a restarted worker serves it too."""
        self.version: str | None = None
        """What is in it, unless it was written to since."""
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
            self.version = replies[0].version
            for worker in workers:
                self._watch(worker)
            return replies[0]

    async def reload(self) -> Reply:
        """Serve what the pointer leads to now, or go on as before.

        Raises:
            BundleError, DeviceError: nothing was changed, for this reason.
        """
        async with self._changing:
            return await self._change(resolve(self.settings.bundle))

    async def _change(self, folder: Path) -> Reply:
        """Have every worker serve a folder, or go on as before; while nobody else changes anything.

        Raises:
            BundleError, DeviceError: nothing was changed, for this reason.
        """
        workers = list(self.workers)
        if not workers:
            raise errors.BundleError("every worker has died, and others are being started. Try again.")
        load = Order("load", str(folder))
        replies = await asyncio.gather(*(worker.ask(load) for worker in workers))
        if any(reply.error for reply in replies):
            await asyncio.gather(*(worker.ask(Order("drop")) for worker in workers))
            _raise_first(replies)
        self.bundle, self.version = folder, replies[0].version
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
                worker.kill()
                worker.writer.close()

    async def _spawn(self, *, at_once: bool) -> Worker:
        self.scratch.mkdir(mode=0o700, exist_ok=True)  # who tidies up /tmp may have removed it
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",
                    "-c",
                    self.CODE,
                    str(self.listener.fileno()),
                    str(theirs.fileno()),
                    *sys.path,
                    pass_fds=(self.listener.fileno(), theirs.fileno()),
                    process_group=0,  # Ctrl-C is for us, who then stop it
                    env=os.environ | {FOLDER_VARIABLE: str(self.scratch)},
                )
        except BaseException:
            ours.close()
            raise
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE_BYTES)
        settings = replace(self.settings, bundle=self.bundle or Path()).to_dict()
        worker = Worker(process, reader, writer)
        with contextlib.suppress(ConnectionError):  # dead already; the first order will tell
            await say(writer, Start(settings, accept_at_once=at_once))
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
        self._forget(worker)
        logger.error("worker %d ended with %d; starting another", worker.process.pid, code)
        if not worker.serves:
            await asyncio.sleep(RESTART_SECONDS)
        successor, reply = await self._successor()
        self._watch(successor)
        if reply.error:
            logger.error("worker %d can't serve: %s", successor.process.pid, reply.error)
            await asyncio.sleep(RESTART_SECONDS)
            async with self._changing:
                if not successor.serves:  # unless a reload has helped it meanwhile
                    successor.kill()

    def _forget(self, worker: Worker) -> None:
        """Remove what it counted as its own; of one that never served, everything."""
        pid = worker.process.pid
        mark_process_dead(pid, str(self.scratch))  # type: ignore[no-untyped-call]
        if not worker.serves:
            for path in self.scratch.glob(f"*_{pid}.db"):
                path.unlink(missing_ok=True)

    async def _successor(self) -> tuple[Worker, Reply]:
        """Another worker, as soon as there can be one, and whether it serves."""
        while True:
            async with self._changing:
                try:
                    # Beside others that are ready, it takes no connection that it would have to turn away.
                    successor = await self._spawn(at_once=not self.workers)
                except OSError as error:  # no memory, or no process more
                    logger.error("no worker can be started: %s", error)
                else:
                    return successor, await self._replace(successor)
            await asyncio.sleep(RESTART_SECONDS)  # reloads are answered meanwhile

    async def _replace(self, successor: Worker) -> Reply:
        """Have it serve what the others do."""
        reply = await successor.ask(Order("load", str(self.bundle)))
        if reply.error:
            return reply
        if reply.version == self.version:
            return await successor.ask(Order("swap"))
        logger.warning("%s has been written to: every worker changes over to %s", self.bundle, reply.version)
        try:
            return await self._change(self.bundle or Path())
        except errors.ServeError as error:
            return Reply(error=str(error))


def _raise_first(replies: list[Reply]) -> None:
    """Raise what a worker found, as the error that it was."""
    for reply in replies:
        if reply.error:
            raise errors.of_kind(reply.kind, reply.error, errors.BundleError)
