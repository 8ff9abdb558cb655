"""Reading files in a zip or a folder. Zips are never unpacked to disk."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath, PureWindowsPath

from recsys.errors import DataError

# Far above every published rating data set (ml-32m: 8 members, 900 MB, packed 4 : 1), and far below what is
# harmful. Text packs 20 : 1 at most.
MAX_MEMBERS = 10_000
MAX_UNPACKED_BYTES = 32 * 2**30
MAX_RATIO = 200


@contextmanager
def opened(path: Path) -> Iterator[Traversable]:
    """Yield the root of a folder or of a zip; for any other file, the file itself.

    Raises:
        DataError: a truncated or damaged zip (also while its members are read); a member that is absolute,
            outside by "..", a link, encrypted, not packed by deflate, or there twice; or a zip beyond the
            limits above.
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


def find(root: Traversable, *patterns: str) -> list[Traversable]:
    """The files whose names match, in the root or, if it has none, in its folders; in order of path."""
    folders = [e for e in root.iterdir() if e.is_dir() and not e.name.startswith((".", "__"))]
    for places in ([root], folders):
        found = [
            entry
            for place in places
            for entry in place.iterdir()
            if entry.is_file() and any(fnmatch(entry.name, pattern) for pattern in patterns)
        ]
        if found:
            return sorted(found, key=str)
    return []


def _directory(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except NotImplementedError as error:  # caught only here, because Arrow's ArrowNotImplementedError is one
        raise zipfile.BadZipFile(str(error)) from None


def _check_members(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_MEMBERS:
        raise DataError(f"{path} has {len(members):,} members; at most {MAX_MEMBERS:,} are read.")
    seen: set[str] = set()
    for member in members:
        name = member.filename
        is_absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or "\\" in name
        for is_bad, reason in (
            (is_absolute, "its path is not a plain relative one"),
            (".." in PurePosixPath(name).parts, "its path leads out of the archive"),
            (stat.S_ISLNK(member.external_attr >> 16), "it is a link"),
            (name in seen, "the archive has it twice"),
            (member.flag_bits & 0x61, "it is encrypted. Unpack it, and name the folder"),
            (
                member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
                "it is not packed by deflate. Unpack it, and name the folder",
            ),
        ):
            if is_bad:
                raise DataError(f"{path}: member {name!r} is refused: {reason}.")
        seen.add(name)
    packed = sum(member.compress_size for member in members)
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_UNPACKED_BYTES or unpacked > MAX_RATIO * max(packed, 2**20):
        raise DataError(
            f"{path}: {packed:,} bytes that unpack to {unpacked:,}: refused as a zip bomb (at most "
            f"{MAX_RATIO} : 1 and {MAX_UNPACKED_BYTES / 2**30:.0f} GiB). If you trust it, unpack it, and "
            f"name the folder."
        )
