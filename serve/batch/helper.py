"""`python -m serve.batch.helper FOLDER THREADS`: a process that does fragments for the local engine.

On its standard input come the plan and then numbers of fragments, a line each; on its standard output go
replies as JSON: ["rows", "5"] while it works, and then what `Worker` says. It ends with its input.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading

import msgspec

from serve.batch.worker import OK, Worker


def main(folder: str, threads: str) -> None:
    """See above."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for whoever started us, who will then stop us
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # no library's chatter among the replies
        encoder, lock = msgspec.json.Encoder(), threading.Lock()

        def reply(kind: str, answer: str) -> None:
            with lock:
                replies.write(encoder.encode((kind, answer)) + b"\n")
                replies.flush()

        def answered(n: int) -> None:
            reply("rows", str(n))

        lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=_listen, args=(lines,), daemon=True).start()
        worker = Worker(lines.get(), int(threads))
        loaded = worker.load()
        reply(*loaded)
        while loaded == OK:
            reply(*worker.do(int(lines.get()), folder, answered))


def _listen(lines: queue.Queue[bytes]) -> None:
    """At the end of the input nobody waits for us any longer, or lives: what is half-done has no use."""
    for line in sys.stdin.buffer:
        lines.put(line)
    os._exit(0)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BaseException:  # noqa: BLE001  whoever started us does the fragment, and tells what is wrong with it
        os._exit(1)
