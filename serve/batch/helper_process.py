"""Processes that help with a job's fragments, seen from the one that starts them.

`serve.batch.helper` is what runs in each.
"""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from serve.batch.fragments import Outcome
from serve.batch.job import Fragment, Plan
from serve.batch.worker import Reply, checked
from serve.errors import ServeError

log = logging.getLogger(__name__)


class Board:
    """What this process and those who talk to helpers share: fragments to do, and what has come of others."""

    def __init__(self, fragments: Sequence[Fragment], on_rows: Callable[[int], None]) -> None:
        self._waiting = deque(fragments)
        self._on_rows = on_rows
        self._counting = threading.Lock()
        # Outcomes of helpers; None where one has come to its end, and a fragment may have come back.
        self._news: queue.Queue[Outcome | None] = queue.Queue()
        self._error: Exception | None = None

    def take(self) -> Fragment | None:
        """A fragment to do; None where there is none."""
        with suppress(IndexError):
            return self._waiting.popleft()
        return None

    def count(self, n: int) -> None:
        """So many rows more (or fewer, where they are to be done again).

        Raises:
            Exception: what a helper has met: there is no use in going on.
        """
        if self._error:
            raise self._error
        with self._counting:
            self._on_rows(n)

    def done(self, outcome: Outcome) -> None:
        """A helper has done a fragment."""
        self._news.put(outcome)

    def ended(self, unfinished: Fragment | None, error: Exception | None = None) -> None:
        """A helper does no more."""
        if unfinished:
            self._waiting.append(unfinished)
        self._error = self._error or error
        self._news.put(None)

    def news(self, *, wait: bool) -> list[Outcome]:
        """What helpers have done by now; where there is nothing to do meanwhile, wait for one of them.

        Raises:
            Exception: what a helper has met.
        """
        found = []
        wait = wait and not self._waiting
        while wait or not self._news.empty():
            with suppress(queue.Empty):
                found.append(self._news.get(timeout=1.0))  # Ctrl-C just before is heard then
                wait = False
        if self._error:
            raise self._error
        return [outcome for outcome in found if outcome]


class _GoneError(Exception):
    """A helper is no more."""


class Helper:
    """A process that does fragments, and a thread of ours that talks to it."""

    # The same modules as ours, wherever those come from.
    CODE = (
        "import sys; sys.path[:] = sys.argv[2:]; from serve.batch.helper import main; main(int(sys.argv[1]))"
    )

    def __init__(self) -> None:
        """Start the process; `begin` gives it something to do.

        Raises:
            OSError: it can't be started.
        """
        ours, its = os.pipe()
        self._replies = os.fdopen(ours, "rb")
        self._thread: threading.Thread | None = None
        self._stopping = False
        try:
            self._process = subprocess.Popen(
                [sys.executable or "", "-P", "-c", self.CODE, str(its), *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # whatever libraries have to say
                pass_fds=(its,),
                process_group=0,  # Ctrl-C is for us, who then stop it
            )
        except OSError:
            self._replies.close()
            raise
        finally:
            os.close(its)

    def stop(self) -> None:
        """Stop the process, whatever it is at. Another time, this does nothing."""
        self._stopping = True
        self._process.kill()
        if self._thread:
            self._thread.join()
        with suppress(OSError):  # what it has not read
            self._process.communicate()
        self._replies.close()

    def begin(self, plan: Plan, folder: Path, threads: int, board: Board) -> None:
        """Have it do fragments until there is none."""
        self._thread = threading.Thread(target=self._tend, args=(plan, folder, threads, board), daemon=True)
        self._thread.start()

    def _tend(self, plan: Plan, folder: Path, threads: int, board: Board) -> None:
        fragment: Fragment | None = None
        counted = 0

        def count(n: int) -> None:
            nonlocal counted
            counted += n
            board.count(n)

        try:
            self._write(msgspec.json.encode((str(folder), threads)))
            self._ask(msgspec.json.encode(plan), count)
            while fragment := board.take():
                counted = 0
                outcome = self._ask(str(fragment.number).encode(), count)
                board.done(msgspec.json.decode(outcome, type=Outcome))
            board.ended(None)
        except _GoneError:
            if not self._stopping:
                log.warning("a helper has died (status %s); others do its work", self._process.wait())
                with suppress(ServeError):
                    board.count(-counted)
            board.ended(fragment)
        except Exception as error:  # noqa: BLE001  raised again by whoever looks at the board
            board.ended(None, error)

    def _ask(self, line: bytes, on_rows: Callable[[int], None]) -> str:
        """What it answers to a line.

        Raises:
            ServeError: the helper's, as it was.
            _GoneError: the helper has died, or was stopped.
        """
        self._write(line)
        while (reply := self._replies.readline()).endswith(b"\n"):
            kind, answer = msgspec.json.decode(reply, type=Reply)
            if kind != "rows":
                return checked((kind, answer))
            on_rows(int(answer))
        raise _GoneError

    def _write(self, line: bytes) -> None:
        assert self._process.stdin
        with suppress(OSError):  # it is gone, and will answer nothing
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
