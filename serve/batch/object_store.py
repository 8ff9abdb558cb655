"""Objects of a store or a lake (s3://, gs://, hdfs://, …), by Arrow's file systems.

Credentials, region and endpoint are those that Arrow finds: in the usual variables and files of each store,
or in the address itself (`s3://bucket/lists?endpoint_override=localhost:9000&scheme=http`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from serve.errors import FullDiskError, InputError, StoreError
from serve.files.atomic import new_file

if TYPE_CHECKING:
    from pyarrow import fs

BLOCK = 8 << 20
"""Bytes that are copied at a time."""
OBJECT_STORES = ("s3", "gcs", "abfs")
"""Arrow's names of stores that have no folders: a key with slashes is all there is."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WILD = re.compile(r"[*\[]")
# USER:PASSWORD@, or what follows a first colon and is no port, such as a secret up to a slash in it.
_PASSWORD = re.compile(r"://[^/]*:[^/]*@|\A[^:/]+://[^/?#:]*:(?!\d*([/?#]|\Z))")


def is_address(path: str) -> bool:
    """Whether a path is the address of a store, such as s3://bucket/pairs, and no path of this machine."""
    return _ADDRESS.match(path) is not None


def last_name(address: str) -> str:
    """The last name of an address; "bucket" of s3://bucket."""
    return address.partition("?")[0].rstrip("/").rpartition("/")[2]


def without_query(address: str) -> str:
    """An address as it may be shown: options behind "?" may hold a signature or a secret. A path as it is."""
    return address.partition("?")[0] if is_address(address) else address


def without_pattern(address: str) -> tuple[str, str]:
    """An address up to its last name, and that name if it is a pattern ("*.parquet"), or "".

    Raises InputError: a name before the last is a pattern.
    """
    bare, mark, query = address.partition("?")
    folder, _, name = bare.rpartition("/")
    if _WILD.search(folder):
        raise InputError(
            f"{bare}: only the last name of an address may have * or [, as in "
            f"s3://bucket/pairs/*.parquet. Name the folder: all tables below it are read."
        )
    return (f"{folder}{mark}{query}", name) if _WILD.search(name) else (address, "")


class Store:
    """The objects whose names begin with an address and a slash, as files with names relative to it.

    Raises:
        InputError: the address holds a password or a "#", or names no bucket.
        StoreError: of every method: the store can't be reached, refuses, or is of an unknown kind.
    """

    def __init__(self, address: str) -> None:
        self.address = without_query(address)
        self._given = address
        if _PASSWORD.search(address):
            raise InputError(
                "an address with a password in it is seen by others and kept in logs. Take variables: "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )
        if "#" in address:  # as in every URL, what follows it would be left out
            raise InputError(f"{self.address}: a # in an address is written %23.")
        with self._told():
            from pyarrow import fs

            self._files: fs.FileSystem
            self._files, root = fs.FileSystem.from_uri(address)
        self._root = root.rstrip("/")
        if not self._root and self._files.type_name in OBJECT_STORES:  # else all buckets of the account
            raise InputError(f"{self.address} names no bucket: it is written s3://bucket/name.")

    def holds(self, found: fs.FileInfo, other: Store) -> bool:
        """Whether an object of another store lies at this address, or below it."""
        same = self._files.type_name == other._files.type_name
        return same and f"{found.path}/".startswith(f"{self._root}/")

    def itself(self) -> fs.FileInfo | None:
        """The object with the address as its name; None: there is none, but perhaps some below it."""
        with self._told():
            found = self._files.get_file_info(self._root)
        return found if found.is_file else None

    def list(self, folder: str = "") -> dict[str, fs.FileInfo]:
        """All objects of a folder and below; empty where there is none."""
        with self._told():
            from pyarrow import fs

            selector = fs.FileSelector(self._path(folder), allow_not_found=True, recursive=True)
            found = self._files.get_file_info(selector)
        start = len(self._root) + 1
        return {file.path[start:]: file for file in found if file.is_file}

    def read(self, name: str, most: int) -> bytes | None:
        """The bytes of an object, up to `most` of them; None: there is no such object."""
        with self._told():
            if not self._files.get_file_info(self._path(name)).is_file:
                return None
            with self._files.open_input_stream(self._path(name)) as stream:
                return bytes(stream.read(most))

    def write(self, name: str, data: bytes) -> None:
        """Make an object, or replace it."""
        with self._told():
            self._make_room(name)
            with self._files.open_output_stream(self._path(name)) as stream:
                stream.write(data)

    def fetch(self, found: fs.FileInfo, path: Path) -> None:
        """Copy an object to a file of this machine, which appears whole.

        Raises:
            InputError: it has another size than it had when it was found.
            FullDiskError: there is no room for it.
        """
        with new_file(path, found.size) as file, self._told():
            with self._files.open_input_stream(found.path) as stream:
                shutil.copyfileobj(stream, _Local(file), BLOCK)
            if file.tell() != found.size:
                raise InputError(
                    f"{self.address}: {found.path} gave {file.tell()} bytes where {found.size} were listed. "
                    f"Was it changed meanwhile? Run again."
                )

    def put(self, path: Path, name: str) -> None:
        """Copy a file of this machine to an object, or replace it."""
        with path.open("rb") as file, self._told():
            self._make_room(name)
            with self._files.open_output_stream(self._path(name)) as stream:
                shutil.copyfileobj(file, stream, BLOCK)

    def move(self, name: str, target: str) -> None:
        """Give an object another name; object stores copy it and delete the first one."""
        with self._told():
            self._make_room(target)
            self._files.move(self._path(name), self._path(target))

    def delete(self, name: str) -> None:
        """Delete an object."""
        with self._told():
            self._files.delete_file(self._path(name))

    def delete_folder(self, name: str) -> None:
        """Delete a folder with all that is in it, if it is there."""
        with self._told():
            from pyarrow import fs

            if self._files.get_file_info(self._path(name)).type == fs.FileType.Directory:
                self._files.delete_dir(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _make_room(self, name: str) -> None:
        if self._files.type_name not in OBJECT_STORES:
            self._files.create_dir(self._path(name).rpartition("/")[0], recursive=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except _LocalError as error:
            raise error.error from None
        except FullDiskError:
            raise
        except (OSError, pa.ArrowException, ImportError) as error:
            reason = " ".join(str(error).replace(self._given, self.address).split())[:400].rstrip(".")
            advice = (
                "Check the address"
                if isinstance(error, pa.ArrowInvalid)
                else "Check the address, the credentials (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
                "AWS_REGION, AWS_ENDPOINT_URL) and the network"
            )
            raise StoreError(f"{self.address}: {reason}. {advice}.") from None


class _LocalError(Exception):
    """An error of this machine's disk amid one of the store's."""

    def __init__(self, error: OSError) -> None:
        self.error = error


class _Local:
    """A file of this machine whose errors are told apart from those of a store."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        """Write; raises _LocalError."""
        try:
            return int(self._file.write(data))
        except OSError as error:
            raise _LocalError(error) from None
