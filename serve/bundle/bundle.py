"""A bundle on disk, checked before ONNX Runtime sees a byte of it.

`open_bundle` checks, in this order: the format version and the manifest's types; that exactly the listed
files are there, as regular files under bare names, neither linked nor shared; their sizes and SHA-256; that
every graph is a whole ONNX file whose external data lies inside a listed file; that every float is finite;
that the manifest fits itself, the tables in the graphs, and the rows of the Parquet files. What is decoded
later is bounded by that. Whether graphs answer as they must is a question to a runtime: `Recommender`.

Checksums prove that a bundle is whole, not who made it: that is what a signature is for
(`serve.bundle.signature`), the one file that the manifest does not list. Nothing here defends against a
process that changes the files while they are served, or against graphs whose operators take much memory, or
trigger bugs of ONNX Runtime.
"""

from __future__ import annotations

import hashlib
import mmap
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np

from serve.bundle.ids import ID_TYPES, items_table
from serve.bundle.manifest import Manifest, parse_manifest, read_raw
from serve.bundle.manifest_check import fault, fault_of_counts
from serve.bundle.onnx_wire import FLOATS, Buffer, WireTensor, read_tensors
from serve.bundle.packing import SCALES, UNITS, unpack
from serve.bundle.parquet import ParquetTable
from serve.bundle.seen import seen_table
from serve.errors import BundleError, NotABundleError
from serve.files.checksum import sha256_of
from serve.files.names import CONFORMANCE_NAME, MANIFEST_NAME, SIGNATURE_NAME

ADVICE = "Copy the bundle again, or export it again."
MAX_FILES = 1000
MAX_JSON_BYTES = 64 << 20
MAX_SIGNATURE_BYTES = 1 << 20
CHUNK_BYTES = 4 << 20
REQUIRED_FILES = {"users.parquet", "items.parquet", CONFORMANCE_NAME}
SEEN_NAME = "seen.parquet"


@dataclass(frozen=True, eq=False)
class Bundle:
    """A checked bundle. Immutable: a new model is a new folder."""

    path: Path
    """The folder itself, every link on the way resolved; a later move of the link changes nothing here."""
    manifest: Manifest
    version: str
    """SHA-256 of the manifest, and so of every file: what a served answer can name as its model."""
    _tensors: dict[str, list[WireTensor]] = field(repr=False)

    def file(self, name: str) -> Path:
        """The path of a listed file. Raises BundleError: the bundle has no such file."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.path} has no {name}. {ADVICE}")
        return self.path / name

    def table(self, name: str) -> np.ndarray:
        """A table of the model, as [rows, ...] with row 0 for "unknown".

        It is read-only, mapped and not copied; a packed one is unpacked, to float32.

        Raises:
            BundleError: no graph holds a table of this name, or its type is one that numpy does not have.
        """
        packing = next((one.packing for one in self.manifest.tables if one.name == name), None)
        if packing is None:
            return self.stored_table(name)
        scales = None if packing.precision == "float16" else self.stored_table(name + SCALES)
        return unpack(self.stored_table(name), scales, self.stored_table(name + UNITS), packing)

    def stored_table(self, name: str) -> np.ndarray:
        """A table as it is stored: packed, if it is. Read-only, mapped. Raises BundleError as `table`."""
        for graph in self.manifest.graphs.values():
            for tensor in self._tensors[graph.file]:
                if tensor.name == name:
                    return self._array(graph.file, tensor)
        names = ", ".join(sorted({table.name for table in self.manifest.tables}))
        raise BundleError(f"{self.path} has no table {name!r}. It has: {names}.")

    def shared_tables(self, graph: str) -> dict[WireTensor, np.ndarray]:
        """The tables of a graph that lie in `tables.bin`, read-only, mapped; none where tables are packed.

        Graphs that share a table have the same key for it.
        """
        if any(table.packing for table in self.manifest.tables):
            return {}
        file = self.manifest.graphs[graph].file
        return {tensor: self._array(file, tensor) for tensor in self._tensors[file] if tensor.external}

    def _array(self, file: str, tensor: WireTensor) -> np.ndarray:
        if tensor.dtype in ("bfloat16", "uint4", "int4", "string"):
            raise BundleError(f"{self.path}: {tensor.name!r} is {tensor.dtype}, no type of numpy")
        content = _content(self.path, _mapped(self.path / file), tensor)
        array: np.ndarray = np.frombuffer(content, tensor.dtype).reshape(tensor.shape)
        return array


def open_bundle(path: str | Path) -> Bundle:
    """Check a bundle and open it. `path` may be a link to one: it is followed once, now.

    Reads every file once, in chunks; memory stays bounded whatever the size of the tables.

    Raises:
        BundleError: it is incomplete, damaged, inconsistent, of an unknown format version, or not to be
            trusted. The message names the file and what to do.
    """
    try:
        folder = Path(path).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NotABundleError(f"{path} is not a bundle: {reason}. `recsys export` makes one.") from None
    raw = read_raw(folder)
    manifest = parse_manifest(raw, folder)
    if wrong := fault_of_counts(manifest):
        raise BundleError(f"{folder / MANIFEST_NAME}: {wrong}. {ADVICE}")
    try:
        _check_files(folder, manifest)
        fields = count(1)
        tensors = {
            graph.file: _tensors(folder, graph.file, manifest, fields) for graph in manifest.graphs.values()
        }
        _check_finite(folder, tensors)
        if wrong := fault(manifest, tensors):
            raise BundleError(f"{folder / MANIFEST_NAME}: {wrong}. {ADVICE}")
        _check_tables(folder, manifest)
    except OSError as error:
        raise BundleError(f"{error.filename or folder} can't be read: {error.strerror}. {ADVICE}") from None
    return Bundle(folder, manifest, hashlib.sha256(raw).hexdigest(), tensors)


def _check_files(folder: Path, manifest: Manifest) -> None:
    listed, path = manifest.files, folder / MANIFEST_NAME
    if len(listed) > MAX_FILES:
        raise BundleError(f"{path} lists {len(listed)} files, more than {MAX_FILES}.")
    for name in listed:
        if not _is_bare(name) or name in (MANIFEST_NAME, SIGNATURE_NAME):
            raise BundleError(f"{path} lists the file {name!r}, which is no bare file name.")
    there = {entry.name: entry.lstat() for entry in folder.iterdir()}
    for name, status in there.items():
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise BundleError(
                f"{folder / name} is a link, a folder, or shared by a hard link; a bundle holds plain files "
                f"of its own. Copy it with `cp -rL`."
            )
    required = REQUIRED_FILES | {graph.file for graph in manifest.graphs.values()}
    if not manifest.without_seen:
        required = required | {SEEN_NAME}
    elif SEEN_NAME in listed:
        raise BundleError(f"{path} lists {SEEN_NAME}, and says that it was exported without it. {ADVICE}")
    if unlisted := sorted(required - listed.keys()):
        raise BundleError(f"{path} does not list {', '.join(unlisted)}. {ADVICE}")
    if missing := sorted(listed.keys() - there.keys()):
        raise BundleError(f"{folder} lacks {', '.join(missing)}. {ADVICE}")
    if SIGNATURE_NAME in there and there[SIGNATURE_NAME].st_size > MAX_SIGNATURE_BYTES:
        raise BundleError(f"{folder / SIGNATURE_NAME} has more than {MAX_SIGNATURE_BYTES} bytes.")
    if extra := sorted(there.keys() - listed.keys() - {MANIFEST_NAME, SIGNATURE_NAME}):
        raise BundleError(
            f"{folder} holds {', '.join(extra)}, not in its manifest. Remove it, or copy again."
        )
    for name, expected in listed.items():
        size = there[name].st_size
        if size != expected.bytes:
            raise BundleError(
                f"{folder / name} has {size} bytes, its manifest says {expected.bytes}. {ADVICE}"
            )
        if name.endswith(".json") and size > MAX_JSON_BYTES:
            raise BundleError(f"{folder / name} has {size} bytes, more than {MAX_JSON_BYTES}.")
    for name, expected in listed.items():
        if (found := sha256_of(folder / name)) != expected.sha256:
            raise BundleError(
                f"{folder / name} is damaged: its SHA-256 is {found}, its manifest says {expected.sha256}. "
                f"{ADVICE}"
            )


def _tensors(folder: Path, name: str, manifest: Manifest, fields: Iterator[int]) -> list[WireTensor]:
    """The tensors of a graph, each in its place."""
    tensors = read_tensors(_mapped(folder / name), str(folder / name), fields)
    for tensor in tensors:
        if (external := tensor.external) is None:
            continue
        where = f"{folder / name}: tensor {tensor.name!r}"
        listed = manifest.files.get(external.location)
        if not _is_bare(external.location) or listed is None:
            raise BundleError(f"{where} lies in {external.location!r}, which is not a listed file. {ADVICE}")
        length = tensor.n_bytes if external.length is None else external.length
        if length != tensor.n_bytes or external.offset + length > listed.bytes:
            raise BundleError(
                f"{where} needs {tensor.n_bytes} bytes and points to {length} at {external.offset} of "
                f"{external.location} ({listed.bytes} bytes). {ADVICE}"
            )
    return tensors


def _check_finite(folder: Path, tensors: Mapping[str, Sequence[WireTensor]]) -> None:
    """Check every float of the graphs once. Tables may be shared, but must not overlap."""
    shared: dict[tuple[str, int, int, str], tuple[str, WireTensor]] = {}
    for name, held in tensors.items():
        data = _mapped(folder / name)
        for tensor in held:
            if tensor.external is not None and tensor.n_bytes:
                place = tensor.external.location, tensor.external.offset, tensor.n_bytes, tensor.dtype
                shared.setdefault(place, (name, tensor))
            elif tensor.dtype in FLOATS and not _is_finite(folder, data, tensor):
                raise _not_finite(folder / name, tensor)
    last, end = "", 0
    for (location, offset, n_bytes, dtype), (name, tensor) in sorted(shared.items()):
        if location == last and offset < end:
            raise BundleError(f"{folder / location}: tensor {tensor.name!r} overlaps another. {ADVICE}")
        last, end = location, offset + n_bytes
        if dtype in FLOATS and not _is_finite(folder, b"", tensor):
            raise _not_finite(folder / name, tensor)


def _not_finite(path: Path, tensor: WireTensor) -> BundleError:
    return BundleError(f"{path}: tensor {tensor.name!r} has NaN or infinite values. Train and export again.")


def _check_tables(folder: Path, manifest: Manifest) -> None:
    """Compare the rows of the Parquet files with the manifest; their pages are checked when they are read."""
    model = manifest.model
    ParquetTable(folder / "users.parquet", {"user_id": ID_TYPES}).check_rows(model.n_users)
    items_table(folder / "items.parquet").check_rows(model.n_items)
    if not manifest.without_seen:
        added = sum(sum(addition.n_item_ratings) for addition in manifest.additions)
        seen_table(folder / SEEN_NAME).check_rows(manifest.data.n_ratings + added)


def _is_finite(folder: Path, data: Buffer, tensor: WireTensor) -> bool:
    content = _content(folder, data, tensor)
    for start in range(0, len(content), CHUNK_BYTES):
        chunk = content[start : start + CHUNK_BYTES]
        if tensor.dtype == "bfloat16":  # numpy has none: all bits of the exponent are set in NaN and infinity
            finite = (np.frombuffer(chunk, np.uint16) & 0x7F80) != 0x7F80
        else:
            finite = np.isfinite(np.frombuffer(chunk, tensor.dtype))
        if not finite.all():
            return False
    return True


def _content(folder: Path, data: Buffer, tensor: WireTensor) -> Buffer:
    """The bytes of a tensor whose place has been checked."""
    if tensor.external is None:
        return data[tensor.start : tensor.stop]
    if not tensor.n_bytes:
        return b""
    start = tensor.external.offset
    return _mapped(folder / tensor.external.location)[start : start + tensor.n_bytes]


def _mapped(path: Path) -> memoryview:
    """The file's bytes, read only where they are touched. The map closes with the last view of it."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise BundleError(f"{path} is empty. {ADVICE}")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _is_bare(name: str) -> bool:
    return name not in ("", ".", "..") and not any(c in name for c in "/\\\0") and len(name) <= 255
