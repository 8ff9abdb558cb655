"""A worker in a process of its own: the bundle, loaded once, and fragments one after another.

What it is told and what it answers is JSON, so that nothing of ours is pickled on its way. Errors are
answers, too: (kind, message), so that nobody tries again what will never work.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from serve.batch.fragments import do_fragment, load, new_crew
from serve.batch.job import Plan
from serve.errors import ServeError, of_kind

Reply = tuple[str, str]
"""The kind of an error and its message; or "" and what was asked for."""
OK: Reply = ("", "")


class Worker:
    """Of one plan (JSON), with so many threads for the runs of its graph."""

    def __init__(self, plan: bytes, threads: int) -> None:
        self._plan = msgspec.json.decode(plan, type=Plan)
        self._threads = threads
        self._open = ExitStack()

    def load(self) -> Reply:
        """Get ready."""
        try:
            self._recommender = load(self._plan.job.bundle, self._plan.device)
            self._crew = self._open.enter_context(new_crew(self._recommender, self._threads))
        except ServeError as error:
            return type(error).__name__, str(error)
        return OK

    def do(self, number: int, folder: str, on_rows: Callable[[int], None] = lambda n: None) -> Reply:
        """Do a fragment: its outcome as JSON."""
        try:
            fragment = self._plan.fragments[number]
            outcome = do_fragment(self._plan, fragment, Path(folder), self._recommender, self._crew, on_rows)
        except ServeError as error:
            return type(error).__name__, str(error)
        except OSError as error:
            return "JobError", f"{error.filename or folder} can't be written: {error.strerror or error}."
        return "", msgspec.json.encode(outcome).decode()


def checked(reply: Reply) -> str:
    """What a worker has answered.

    Raises:
        ServeError: the worker's, as it was.
    """
    kind, answer = reply
    if kind:
        raise of_kind(kind, answer)
    return answer
