"""The folder that a job is assembled in: `.NAME.partial` beside the output, until it is whole.

What lies there:

    _plan.json              what the job is; only a job with the same identity may go on with the rest
    _lock                   held by the processes that run the job; says which run that is
    _input/00000.parquet    an input that is text, staged; removed at the end
    part-00000.parquet      finished parts, each renamed into place whole
    _done/00000.json        written after the part that it tells of
    _quarantine/part-….jsonl  bad rows, where they are set aside
    _SUCCESS.json           written last; then the folder takes the output's name
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from serve.errors import OutputError

PLAN = "_plan.json"
LOCK = "_lock"
INPUT = "_input"
DONE = "_done"
QUARANTINE = "_quarantine"
SUCCESS = "_SUCCESS.json"

PATIENCE = 0.5
"""Seconds that the workers of a killed job have to end."""


def check_ours(folder: Path) -> None:
    """Refuse a folder that no job has begun in: it would be emptied.

    Raises:
        OutputError: so it is.
    """
    there: set[str] = set()
    with suppress(FileNotFoundError):  # nothing is there, or another job has just removed it
        there = {found.name for found in folder.iterdir()} if _is_folder(folder) else {folder.name}
    if there and not there & {LOCK, PLAN, SUCCESS}:
        raise OutputError(
            f"{folder} was not made by a batch job, and the output is assembled there. Move it."
        )


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Be the only process that runs the job in a folder; a killed one lets go.

    Raises:
        OutputError: another one does.
    """
    lock = _lock(folder)
    # The job that held it may have given the folder its name in between: then this is no lock of ours.
    while not _is_at(lock, folder / LOCK):
        os.close(lock)
        lock = _lock(folder)
    try:
        yield
    finally:
        os.close(lock)


def share_claim(folder: Path) -> None:
    """Keep other jobs out of a folder as long as this process lives, though the one that claimed it may die.

    Raises:
        OSError: another job has claimed it.
    """
    fcntl.flock(os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH | fcntl.LOCK_NB)


def sweep(folder: Path) -> None:
    """Remove what somebody was writing who has been killed."""
    for place in (folder, folder / INPUT, folder / DONE, folder / QUARANTINE):
        for temporary in place.glob(".*.tmp"):
            temporary.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove a folder that we hold, unless another job begins in it meanwhile."""
    empty(folder)
    with suppress(OSError):
        (folder / LOCK).unlink()
        folder.rmdir()


def empty(folder: Path) -> None:
    """Remove all but the lock: while it is there, nobody else begins in the folder.

    What says that a job is whole, or begun, goes first, so that nobody goes on with what is left of it.
    """
    for name in (SUCCESS, PLAN):
        (folder / name).unlink(missing_ok=True)
    for found in folder.iterdir():
        if found.name != LOCK:
            shutil.rmtree(found) if _is_folder(found) else found.unlink()


def _lock(folder: Path) -> int:
    lock = _open_lock(folder)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # workers take their share
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            os.close(lock)
            raise OutputError(
                f"{folder} belongs to a job that is running. Wait for it, or stop it."
            ) from None
        return lock


def _open_lock(folder: Path, tries: int = 100) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except (FileNotFoundError, FileExistsError):  # another job has just removed the folder
        if not tries:
            raise
        return _open_lock(folder, tries - 1)


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
