"""Reading small files that somebody else has put there."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_plain(path: Path, n_bytes: int) -> bytes:
    """The first bytes of a regular file; a pipe in its place would be waited for without end.

    Raises:
        OSError: it can't be read, or is not a regular file.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return file.read(n_bytes)
