"""A full disk, whoever notices it: Python, Arrow, ONNX or safetensors."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serve.errors import FullDiskError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space left, a quota, and a limit of file sizes (`ulimit -f`)."""
# Libraries of other languages have the system's number in their messages alone.
_NUMBER = re.compile(r"\b(?:os error|errno) ([0-9]+)", re.IGNORECASE)


def is_full(error: BaseException) -> bool:
    """Whether an error comes from a full disk."""
    return _number(error) in FULL


@contextmanager
def told_of_full_disk(path: Path, need: int | None = None) -> Iterator[None]:
    """Turn errors of a full disk into one that names `path`, a file or a folder that is being written.

    `need` is its size in bytes, where it is known.

    Raises:
        FullDiskError: the disk is full, or a quota or a limit of file sizes is reached.
    """
    try:
        yield
    except FullDiskError:
        raise
    except Exception as error:  # safetensors and Arrow have types of their own
        if not is_full(error):
            raise
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        needs = "" if need is None else f" It needs {need:,} bytes."
        raise FullDiskError(
            f"{path} can't be written: {os.strerror(_number(error) or 0)}.{needs} Free on its disk: "
            f"{shutil.disk_usage(folder).free:,} bytes. Make room, raise the limit (quota, ulimit -f), or "
            f"write elsewhere."
        ) from error


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _NUMBER.search(str(error))
    return int(found[1]) if found else None
