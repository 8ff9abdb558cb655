"""The pointer to a served bundle: the folder itself, a link to it, or a text file that names it."""

from __future__ import annotations

from pathlib import Path

from serve.errors import BundleError, NotABundleError
from serve.files.plain_file import read_plain

MAX_POINTER_BYTES = 4096


def resolve(path: Path) -> Path:
    """The bundle's own folder, with every link followed.

    A text file has one line, the path of a folder, absolute or relative to the file's own folder.

    Raises:
        NotABundleError: there is no such file, or the text file names no folder.
    """
    what = f"{path} is not a bundle, nor does it name one"
    try:
        folder = path.resolve(strict=True)
        if not folder.is_dir():
            raw = read_plain(folder, MAX_POINTER_BYTES + 1)
            named = raw.decode().strip()
            if len(raw) > MAX_POINTER_BYTES or not named or "\n" in named or "\0" in named:
                raise NotABundleError(
                    f"{path} must have one line, the path of a bundle, in at most {MAX_POINTER_BYTES} bytes."
                )
            what = f"{path} names {named!r}"
            folder = (folder.parent / named).resolve(strict=True)
    except UnicodeDecodeError:
        raise NotABundleError(f"{path} is neither a bundle nor a text file that names one.") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise NotABundleError(f"{what}: {getattr(error, 'strerror', None) or error}.") from None
    if not folder.is_dir():
        raise NotABundleError(f"{what}, which is not a folder.")
    return folder


def stamp(path: Path) -> object:
    """A value that changes when `path` points to another bundle, or a file of the bundle is replaced."""
    try:
        folder = resolve(path)
        files = {entry.name: entry.stat() for entry in folder.iterdir()}
    except (BundleError, OSError) as error:
        return str(error)
    return folder, {name: (file.st_ino, file.st_size, file.st_mtime_ns) for name, file in files.items()}
