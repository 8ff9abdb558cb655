"""Where a served bundle is: a folder, a link to one, or a small text file that names one."""

from __future__ import annotations

from pathlib import Path

from serve.errors import BundleError
from serve.files.plain_file import read_plain

MAX_POINTER_BYTES = 4096


def resolve(path: Path) -> Path:
    """The bundle's own folder, every link on the way followed, now.

    A text file holds one line, the path of a folder; a relative one starts at the file's own place.
    It names a bundle, not another text file.

    Raises:
        BundleError: nothing is there, or the text file names no folder.
    """
    try:
        found = path.resolve(strict=True)
        if found.is_dir():
            return found
        raw = read_plain(found, MAX_POINTER_BYTES + 1)
        lines = raw.decode().split("\n")
    except UnicodeDecodeError:
        raise BundleError(f"{path} is neither a bundle nor a text file that names one.") from None
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"{path} is not a bundle, nor does it name one: {reason}.") from None
    named = lines[0].strip()
    if len(raw) > MAX_POINTER_BYTES or not named or "\0" in named or any(line.strip() for line in lines[1:]):
        raise BundleError(
            f"{path} must hold one line, the path of a bundle, in at most {MAX_POINTER_BYTES} bytes."
        )
    try:
        folder = (found.parent / named).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"{path} names {named!r}: {reason}.") from None
    if not folder.is_dir():
        raise BundleError(f"{path} names {named!r}, which is not a folder.")
    return folder


def stamp(path: Path) -> object:
    """What changes when `path` leads to another bundle, or when a file of that bundle is replaced."""
    try:
        folder = resolve(path)
        files = {entry.name: entry.stat() for entry in folder.iterdir()}
    except (BundleError, OSError) as error:
        return str(error)
    return folder, {name: (file.st_ino, file.st_size, file.st_mtime_ns) for name, file in files.items()}
