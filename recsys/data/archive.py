"""A zip or a folder, opened for reading; nothing is ever unpacked to disk."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath, PureWindowsPath

from recsys.errors import DataError

# Limits far above every published rating data set (ml-32m: 8 members, 900 MB, packed 4 : 1) and far
# below what could hurt. Text of the repetitive kind packs 20 : 1 at most.
MAX_MEMBERS = 10_000
MAX_UNPACKED_BYTES = 32 * 2**30
MAX_RATIO = 200


@contextmanager
def opened(path: Path) -> Iterator[Traversable]:
    """The root of a folder or of a zip, to look files up in and to read them; any other file itself.

    Raises:
        DataError: not a zip, a truncated or damaged one (also while its members are read), or a member
            that has no place in a data set: an absolute path, "..", a link, encrypted, not packed by
            deflate, twice the same name, or more and larger than the limits above.
    """
    if path.is_dir() or path.suffix.lower() != ".zip":
        yield path
        return
    try:
        with _directory(path) as archive:
            _check_members(path, archive.infolist())
            yield zipfile.Path(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise DataError(
            f"{path} is not a whole zip archive ({error}); it was probably cut off. Download it again."
        ) from None


def _directory(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except NotImplementedError as error:  # caught here alone: Arrow's own is one too
        raise zipfile.BadZipFile(str(error)) from None


def find(root: Traversable, *names: str) -> Traversable | None:
    """The file that has one of these names, in the root itself or else in one of its folders.

    Copies of a data set differ in whether, and in what folder, they keep their files.

    Raises:
        DataError: several folders have one.
    """
    for folders in ([root], sorted(_folders(root), key=lambda folder: folder.name)):
        there = [entry for folder in folders for name in names if (entry := folder / name).is_file()]
        if len(there) > 1:
            raise DataError(f"{root} has {len(there)} of {' or '.join(names)}: {', '.join(map(str, there))}.")
        if there:
            return there[0]
    return None


def with_ending(root: Traversable, ending: str) -> list[Traversable]:
    """The files with this ending, in the root itself or else in its folders, in order of name."""
    for folders in ([root], _folders(root)):
        there = [entry for folder in folders for entry in folder.iterdir() if entry.name.endswith(ending)]
        if there:
            return sorted(there, key=str)
    return []


def _folders(root: Traversable) -> list[Traversable]:
    return [entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__"))]


def _check_members(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_MEMBERS:
        raise DataError(f"{path} has {len(members):,} members; at most {MAX_MEMBERS:,} are read.")
    seen: set[str] = set()
    for member in members:
        name = member.filename
        if PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or "\\" in name:
            raise DataError(f"{path}: unsafe member {name!r}: its path is not a plain relative one.")
        if ".." in PurePosixPath(name).parts:
            raise DataError(f"{path}: unsafe member {name!r}: its path leads out of the archive.")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise DataError(f"{path}: unsafe member {name!r}: it is a link.")
        if member.flag_bits & 0x61:  # encrypted, a patch, strongly encrypted
            raise DataError(f"{path}: member {name!r} is encrypted. Unpack it, and name the folder.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(
                f"{path}: member {name!r} is not packed by deflate. Unpack it, and name the folder."
            )
        if name in seen:
            raise DataError(f"{path}: unsafe member {name!r}: the archive has it twice.")
        seen.add(name)
    packed = sum(member.compress_size for member in members)
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_UNPACKED_BYTES or unpacked > MAX_RATIO * max(packed, 2**20):
        raise DataError(
            f"{path}: {packed:,} bytes that unpack to {unpacked:,}: refused as a zip bomb (at most "
            f"{MAX_RATIO} : 1 and {MAX_UNPACKED_BYTES / 2**30:.0f} GiB). If you trust it, unpack it, and "
            f"name the folder."
        )
