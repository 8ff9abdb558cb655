"""One worker process, started by the supervisor with two sockets: where to listen, and where to take orders.

The first ones answer HTTP from their first moment on: live at once, ready when the first model has been
loaded. One that replaces a dead one beside others begins with its model. Models are loaded in a thread beside
the one that answers, so requests go on meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import shutil
import signal
import socket
import sys
from functools import partial
from pathlib import Path

import msgspec

from serve.errors import ServeError
from serve.http.app import create_app
from serve.http.control import MAX_ERROR_CHARACTERS, MAX_LINE_BYTES, Order, Reply, Start, say
from serve.http.metrics import FOLDER_VARIABLE
from serve.http.model import CurrentModel, Model, load_model
from serve.http.server import Server, listeners
from serve.http.settings import Settings


class Worker:
    """Follows the supervisor's orders."""

    def __init__(self, settings: Settings, *, accept_at_once: bool) -> None:
        self.settings, self.accepts_at_once = settings, accept_at_once
        self.may_accept = asyncio.Event()
        if accept_at_once:
            self.may_accept.set()
        self.current = CurrentModel()
        self.next: Model | None = None
        app = create_app(settings, self.current)
        self.server = Server(app, settings.grace_seconds, app.state.room)

    async def run(self, listener: socket.socket, control: socket.socket) -> None:
        """Serve until told to stop, or until the supervisor is gone."""
        reader, writer = await asyncio.open_connection(sock=control, limit=MAX_LINE_BYTES)
        loop = asyncio.get_running_loop()
        # Sent by whoever signals every process of the service; only the supervisor acts on these two.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        orders = loop.create_task(self._follow(reader, writer))
        try:
            await self.may_accept.wait()
            if self.current.model is None and not self.accepts_at_once:  # told to stop meanwhile
                return  # it would answer what the others could have answered, with a 503
            await self.server.serve(listeners(listener))
        finally:
            orders.cancel()
            writer.close()

    def stop(self, *, at_once: bool = False) -> None:
        """No longer ready; after a while no longer there, with everything answered that had come in."""
        self.current.draining = True
        self.may_accept.set()  # else it would wait to begin
        delay = 0.0 if at_once else self.settings.drain_seconds
        asyncio.get_running_loop().call_later(delay, setattr, self.server, "should_exit", True)

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        work: asyncio.Task[None] | None = None
        with contextlib.suppress(ConnectionError):  # it was killed with a reply unread
            while line := await reader.readline():
                order = msgspec.json.decode(line, type=Order)
                if order.do == "stop":
                    self.stop(at_once=order.at_once)
                else:
                    # In a task, so that `stop` is heard while a large bundle is being read.
                    work = asyncio.create_task(self._obey(order, writer))
        # The supervisor was killed: nobody else is left to stop this process, and to clear up.
        if work is not None:
            work.cancel()
        self.stop(at_once=True)
        if scratch := os.environ.get(FOLDER_VARIABLE):
            shutil.rmtree(scratch, ignore_errors=True)

    async def _obey(self, order: Order, writer: asyncio.StreamWriter) -> None:
        try:
            if order.do == "load":
                folder, settings = Path(order.bundle or ""), self.settings
                load = partial(load_model, share_tables=settings.share_tables)
                self.next = await asyncio.to_thread(load, folder, settings.device, settings.threads)
            elif order.do == "swap" and self.next is not None:
                self.current.swap(self.next)
                self.next = None
                self.may_accept.set()
            elif order.do == "drop":
                self.next = None
        except ServeError as error:
            await say(writer, Reply(error=str(error)[:MAX_ERROR_CHARACTERS], kind=type(error).__name__))
        except Exception as error:
            logging.exception("the bundle could not be loaded")
            told = f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARACTERS]
            await say(writer, Reply(error=told, kind="BundleError"))
        else:
            model = self.next or self.current.model
            reply = Reply()
            if model is not None:
                reply = Reply(version=model.version, device=model.recommender.device)
            await say(writer, reply)


def _read_line(control: socket.socket) -> bytes:
    """The first line, byte by byte: what follows it belongs to the event loop."""
    line = b""
    while not line.endswith(b"\n"):
        byte = control.recv(1)
        if not byte:
            sys.exit(1)
        line += byte
    return line


def main() -> None:
    """The process."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    listener, control = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    start = msgspec.json.decode(_read_line(control), type=Start)
    worker = Worker(Settings.from_dict(start.settings), accept_at_once=start.accept_at_once)
    # What there is by now stays to the end: the collector leaves it alone. It would stop every request that
    # waits for 40 ms to look through it. Models come and go, and are not among it.
    gc.collect()
    gc.freeze()
    # Requests leave little behind that only it finds; to look every 700 objects took a tenth of all time.
    gc.set_threshold(10_000)
    listener.setblocking(False)
    control.setblocking(False)
    runner = asyncio.Runner(loop_factory=worker.server.config.get_loop_factory())
    runner.run(worker.run(listener, control))
    os._exit(0)  # closing the runner would wait for a load that nobody needs any more
