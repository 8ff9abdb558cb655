"""Files and folders that appear whole or not at all, even after a crash or on a full disk.

The steps are always the same: write a temporary sibling, fsync, rename, fsync the parent. A killed process
can leave a hidden `.NAME.….tmp`, never a half-written NAME.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from serve.errors import OutputError
from serve.files.full_disk import told_of_full_disk
from serve.files.names import CONFORMANCE_NAME, MANIFEST_NAME

AT_FDCWD = -100
RENAME_EXCHANGE = 2


def write_file(path: Path, data: bytes) -> None:
    """Write `data` to `path`, replacing what was there in one step. A link stays; its target is replaced.

    Raises:
        FullDiskError, OSError: the disk is full; the folder is missing or not writable. `path` is then as it
            was.
    """
    with new_file(path, len(data)) as file:
        file.write(data)


@contextmanager
def new_file(path: Path, need: int | None = None) -> Iterator[BinaryIO]:
    """Give an empty temporary file that becomes `path` when the block ends without an error.

    `need` is its size in bytes, where it is known. Raises FullDiskError, OSError: as `write_file`.
    """
    path = path.resolve()
    temporary = _sibling(path, "tmp")
    try:
        with told_of_full_disk(path, need):
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.strerror:
            error.filename = str(path)  # the caller's path, not the temporary one's
        raise
    fsync(path.parent)


@contextmanager
def new_folder(path: Path, *, overwrite: bool = False, marker: str = MANIFEST_NAME) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`, and make it `path` when the block ends without an error.

    With `overwrite`, an existing folder is swapped out once the new one is whole and on disk, and then
    removed. It must hold a file named `marker`, or nothing, so that a mistyped path removes no other data. A
    link is refused, since other programs follow it.

    Raises:
        OutputError: `path` is there without `overwrite`; or it is a link, a file, a folder without `marker`.
        FullDiskError, OSError: the disk is full; not writable. `path` is then as it was.
    """
    path = path.absolute()  # not resolve(): a link must be seen as one
    check_target(path, overwrite, marker)
    temporary = _sibling(path, "tmp")
    try:
        with told_of_full_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            yield temporary
            # Checks the target again: the block may have taken hours.
            move_into_place(temporary, path, overwrite=overwrite, marker=marker)
    finally:
        # The old folder after a swap, the half-written one after an error.
        shutil.rmtree(temporary, ignore_errors=True)


def move_into_place(folder: Path, path: Path, *, overwrite: bool, marker: str) -> None:
    """Rename the finished `folder` to `path` beside it; an old folder there gets the name `folder`.

    Raises:
        OutputError, OSError: as `new_folder`; both are then as they were.
    """
    _fsync_tree(folder)
    check_target(path, overwrite, marker)
    if path.exists():
        _swap(folder, path)
    else:
        folder.rename(path)
    fsync(path.parent)


def check_outside_bundles(path: Path) -> None:
    """Raise OutputError for a path inside a bundle, which has exactly the files that its manifest lists."""
    for folder in path.absolute().parents:
        if all((folder / name).is_file() for name in (MANIFEST_NAME, CONFORMANCE_NAME)):
            raise OutputError(
                f"{path} lies in the bundle {folder}, to which nothing is added. Write elsewhere."
            )


def check_target(path: Path, overwrite: bool, marker: str) -> None:
    """Check that a new folder may replace `path`. Raises OutputError: as `new_folder`, or in a bundle."""
    check_outside_bundles(path)
    if path.is_symlink():
        raise OutputError(
            f"{path} is a link (to {path.readlink()}). Write to a new folder, then move the link."
        )
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputError(f"{path} is a file, not a folder. Choose another output.")
    if path.is_mount():
        raise OutputError(
            f"{path} is a mount point, which no folder can take the place of. Choose an output inside it."
        )
    if not overwrite:
        raise OutputError(f"{path} is already there. Choose another output, or add --overwrite.")
    if not (path / marker).exists() and any(path.iterdir()):
        raise OutputError(f"{path} holds no {marker}, so it isn't ours to overwrite. Choose another output.")


def _swap(new: Path, old: Path) -> None:
    """Exchange two folders; in one step where the system has renameat2, so that `old` is never missing."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
        if renameat2(AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(old), RENAME_EXCHANGE) == 0:
            return
    except (OSError, AttributeError, TypeError):  # not Linux
        pass
    aside = _sibling(old, "old")
    old.rename(aside)
    try:
        new.rename(old)
    except BaseException:
        aside.rename(old)
        raise
    aside.rename(new)


def _sibling(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{ending}")


def _fsync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            fsync(Path(root, name))
        fsync(Path(root))


def write_behind(file: BinaryIO, start: int) -> None:
    """Ask the system to start writing a file from byte `start` on, so that a later fsync waits less."""
    if hasattr(os, "posix_fadvise"):  # Linux
        file.flush()
        # Pages that are being written stay in the cache.
        os.posix_fadvise(file.fileno(), start, 0, os.POSIX_FADV_DONTNEED)


def fsync(path: Path) -> None:
    """Flush a file, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
