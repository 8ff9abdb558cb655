"""Reading small files that this process did not write."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_plain(path: Path, n_bytes: int) -> bytes:
    """Read the first bytes of a regular file. Raises OSError: another kind of file, such as a pipe."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return file.read(n_bytes)
