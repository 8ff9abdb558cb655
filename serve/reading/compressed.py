"""Compressed text: read as a stream, never unpacked to disk."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources.abc import Traversable
from pathlib import PurePath
from typing import IO

import pyarrow as pa

from serve.errors import InputError

CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
"""Ending -> Arrow's name of the codec."""


def inner_name(name: str) -> str:
    """The name of a file without the ending of its compression."""
    path = PurePath(name)
    return path.stem if path.suffix.lower() in CODECS else path.name


@contextmanager
def opened(file: Traversable) -> Iterator[IO[bytes]]:
    """Open a file to read its bytes, decompressed as the ending of its name says.

    Raises InputError, also while it is read: it can't be read, or what is compressed is damaged or cut off.
    """
    ending = PurePath(file.name).suffix.lower()
    try:
        with ExitStack() as stack:
            stream = stack.enter_context(file.open("rb"))
            if ending in CODECS:
                # Arrow refuses what follows the compressed data, which Python's own modules ignore.
                unpacked = stack.enter_context(pa.CompressedInputStream(stream, CODECS[ending]))
                stream = stack.enter_context(io.BufferedReader(unpacked))
            yield stream
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        advice = " Is it whole? Copy it again." if ending in CODECS else ""
        raise InputError(f"{file} can't be read: {reason}.{advice}") from None
