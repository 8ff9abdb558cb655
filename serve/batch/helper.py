"""A process that does fragments for the local engine, which starts it (`helper_process.Helper`).

On its standard input come, a line each: the folder to write to and the threads to use; the plan; and then
the numbers of fragments to do. It replies as JSON: ["rows", "5"] while it works, and at last what `Worker`
says. It exits when its input is closed.
"""

from __future__ import annotations

import fcntl
import os
import queue
import sys
import threading
import time
from pathlib import Path

import msgspec

# What the first fragment needs, while the job is still being planned.
import onnxruntime  # noqa: F401
import pyarrow.parquet  # noqa: F401

from serve.batch.job_folder import LOCK
from serve.batch.worker import OK, Worker

TELL_EVERY = 0.1
"""Seconds."""


def main(descriptor: int) -> None:
    """See above; where to reply to."""
    try:
        _work(descriptor)
    except BaseException:  # noqa: BLE001  whoever started us does the fragment, and tells what is wrong with it
        os._exit(1)


def _work(descriptor: int) -> None:
    with os.fdopen(descriptor, "wb") as replies:
        encoder = msgspec.json.Encoder()

        def reply(kind: str, answer: str) -> None:
            replies.write(encoder.encode((kind, answer)) + b"\n")
            replies.flush()

        rows, told = 0, 0.0

        def answered(n: int) -> None:
            nonlocal rows, told
            rows += n
            if (now := time.monotonic()) > told + TELL_EVERY:  # or whoever listens would do nothing else
                reply("rows", str(rows))
                rows, told = 0, now

        lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=_listen, args=(lines,), daemon=True).start()
        folder, threads = msgspec.json.decode(lines.get(), type=tuple[str, int])
        # As long as we live, no other job begins in the folder, though whoever started us may be killed.
        with (Path(folder) / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            worker = Worker(lines.get(), threads)
            loaded = worker.load()
            reply(*loaded)
            while loaded == OK:
                done = worker.do(int(lines.get()), folder, answered)
                reply("rows", str(rows))
                rows = 0
                reply(*done)


def _listen(lines: queue.Queue[bytes]) -> None:
    """At the end of the input nobody waits for us any longer, or lives: what is half-done has no use."""
    for line in sys.stdin.buffer:
        lines.put(line)
    os._exit(0)
