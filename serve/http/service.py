"""The life of `recsys serve`: start, reload when asked, stop when told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from serve.errors import ServeError
from serve.http.admin import create_admin_app
from serve.http.control import Reply
from serve.http.server import Server
from serve.http.settings import Settings
from serve.http.supervisor import Supervisor
from serve.processes.listener import url

logger = logging.getLogger(__name__)

Say = Callable[[str], None]


async def run_service(
    settings: Settings, listener: socket.socket, *, n_workers: int, admin: socket.socket | None, say: Say
) -> None:
    """Serve until SIGTERM or Ctrl-C; reload on SIGHUP, and where asked to through the admin listener.

    Args:
        settings: Of every worker.
        listener: What `bind` gave.
        n_workers: Processes.
        admin: What `bind` gave, for `POST /admin/reload`.
        say: Takes one line for whoever watches.

    Raises:
        BundleError, DeviceError: the bundle that is there at the start can't be served.
    """
    loop = asyncio.get_running_loop()
    stop_signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_signals.put_nowait, number)
    reload_wanted = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, reload_wanted.set)
    with tempfile.TemporaryDirectory(prefix="recsys-serve-") as scratch:
        supervisor = Supervisor(settings, n_workers, listener, Path(scratch))
        stopped = loop.create_task(stop_signals.get())
        starting = loop.create_task(supervisor.start())
        tasks: list[asyncio.Task[None]] = []
        received = signal.SIGINT
        try:
            await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                _say_reply(say, f"Serving {settings.bundle} on {url(listener)}", starting.result())
                reload = partial(_reload, supervisor, say)
                tasks.append(loop.create_task(_reload_when(reload_wanted, reload)))
                if admin is not None:
                    server = Server(create_admin_app(reload, settings.token), grace_seconds=1)
                    tasks.append(loop.create_task(server.serve([admin])))
                    say(f"POST {url(admin)}/admin/reload reloads.")
            received = await stopped
        finally:
            for task in (starting, stopped, *tasks):
                task.cancel()
            say("Stopping.")
            stopping = loop.create_task(supervisor.stop(at_once=received == signal.SIGINT))
            # Whoever presses Ctrl-C twice does not want to wait.
            impatient = loop.create_task(_interrupted(stop_signals))
            await asyncio.wait((stopping, impatient), return_when=asyncio.FIRST_COMPLETED)
            for task in (stopping, impatient):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await stopping


async def _interrupted(stop_signals: asyncio.Queue[signal.Signals]) -> None:
    while await stop_signals.get() != signal.SIGINT:  # service managers may say SIGTERM twice
        pass


async def _reload(supervisor: Supervisor, say: Say) -> Reply:
    """Reload, and say how that went, whoever asked for it."""
    try:
        reply = await supervisor.reload()
    except ServeError as error:
        say(f"Not reloaded, nothing was changed: {error}")
        raise
    except Exception:
        say("Not reloaded: the log says why.")
        raise
    _say_reply(say, "Reloaded", reply)
    return reply


async def _reload_when(wanted: asyncio.Event, reload: Callable[[], Awaitable[Reply]]) -> None:
    """One reload for every wish; wishes that come during one are one more."""
    while True:
        await wanted.wait()
        wanted.clear()
        try:
            await reload()
        except ServeError:
            pass  # it has been told
        except Exception:
            # Our own fault; but whoever repairs the bundle and asks again must be heard.
            logger.exception("the reload failed")


def _say_reply(say: Say, what: str, reply: Reply) -> None:
    say(f"{what}: version {reply.version}, on {reply.device}.")
