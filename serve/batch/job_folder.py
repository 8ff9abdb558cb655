"""The folder where a job is assembled: `.NAME.partial` beside the output.

- `_plan.json`: the job's identity; only a job with the same one may resume it
- `_lock`: locked by the processes that run the job; holds the run's id
- `_input/00000.parquet`: a staged text input; removed at the end
- `_staged.json`: SHA-256 of each staged input
- `part-00000.parquet`: a finished part, renamed into place whole; in folders where the job is partitioned
- `_done/00000.json`: the outcome of a fragment with the SHA-256 of its part, written after it
- `_quarantine/part-….jsonl`: bad rows, where they are quarantined
- `_SUCCESS.json`: written last; then the folder takes the output's name
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
STAGED = "_staged.json"
DONE = "_done"
QUARANTINE = "_quarantine"
SUCCESS = "_SUCCESS.json"

PATIENCE = 0.5
"""Seconds that the workers of a killed job have to end."""


def check_ours(folder: Path) -> None:
    """Raise OutputError unless a folder, which will be emptied, is free or was made by a job."""
    there: set[str] = set()
    with suppress(FileNotFoundError):  # free, or just removed by another job
        there = {found.name for found in folder.iterdir()} if _is_folder(folder) else {folder.name}
    if there and not there & {LOCK, PLAN, SUCCESS}:
        raise OutputError(
            f"{folder} was not made by a batch job, and the output is assembled there. Move it."
        )


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the folder and hold its lock; the system releases the lock of a killed process.

    A folder that holds nothing but the lock is removed at the end.

    Raises:
        OutputError: another process holds it.
    """
    lock = _lock(folder)
    try:
        yield
    finally:
        if _is_at(lock, folder / LOCK) and {found.name for found in folder.iterdir()} == {LOCK}:
            remove(folder)
        os.close(lock)


def share_claim(folder: Path) -> None:
    """Keep other jobs out of a folder while this process lives. Raises OSError: another job has it."""
    fcntl.flock(os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH | fcntl.LOCK_NB)


def sweep(folder: Path) -> None:
    """Remove the temporary files of killed processes."""
    for temporary in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
        temporary.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove a folder that this process has claimed, unless another job begins in it meanwhile."""
    empty(folder)
    with suppress(OSError):
        (folder / LOCK).unlink()
        folder.rmdir()


def empty(folder: Path) -> None:
    """Remove everything but the lock."""
    # First what marks a job as finished or resumable: a process that is killed here leaves nothing to resume.
    for name in (SUCCESS, PLAN):
        (folder / name).unlink(missing_ok=True)
    for found in folder.iterdir():
        if found.name != LOCK:
            shutil.rmtree(found) if _is_folder(found) else found.unlink()


def _lock(folder: Path) -> int:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # workers take their share
                if _is_at(lock, folder / LOCK):
                    return lock
                # The job that held it has renamed the folder meanwhile, so this is the lock of an output.
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OutputError(
                        f"{folder} belongs to a job that is running. Wait for it, or stop it."
                    ) from None
            os.close(lock)
        except (FileNotFoundError, FileExistsError):  # another job has just removed the folder
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
