"""A bundle on disk, checked before ONNX Runtime sees a byte of it.

What is checked, in this order: the format version and the manifest's types; that exactly the listed files
are there, as regular files under bare names, neither linked nor shared; their sizes and SHA-256; that every
graph is a whole ONNX file whose external data lies inside a listed file; that every float is finite; that
the manifest's graphs and tables are what the graphs hold.

What this does not defend against: a manifest and files forged together (checksums prove that a bundle is
whole, not who made it: sign or hash the folder yourself if it comes from strangers), a process that changes
the files while they are served, and bugs in ONNX Runtime that a well-formed graph triggers.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import stat
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from serve.bundle.manifest import Manifest, parse_manifest, read_raw
from serve.bundle.onnx_wire import FLOATS, Buffer, WireTensor, read_tensors
from serve.errors import BundleError
from serve.files.checksum import sha256_of
from serve.files.names import MANIFEST_NAME

WAY_OUT = "Copy the bundle again, or export it again."
MAX_FILES = 1000
MAX_JSON_BYTES = 64 << 20
CHUNK_BYTES = 4 << 20
REQUIRED_FILES = {"users.parquet", "items.parquet", "seen.parquet"}

# graph -> (inputs, outputs) as (name, dtype, rank); docs/bundle.md explains them.
_USER = ("user_index", "int64", 1)
_ITEM = ("item_index", "int64", 1)
_TOP = {("top_item_indices", "int64", 2), ("top_scores", "float32", 2)}
CONTRACTS: dict[str, tuple[set[tuple[str, str, int]], set[tuple[str, str, int]]]] = {
    "score": ({_USER, _ITEM}, {("score", "float32", 1)}),
    "recommend": ({_USER, ("exclude_item_indices", "int64", 2)}, _TOP),
    "similar_items": ({_ITEM}, _TOP),
    "fold_in": (
        {("item_indices", "int64", 2), ("ratings", "float32", 2)},
        _TOP | {("user_factors", "float32", 2)},
    ),
}
# An option that no `Recommender` runs; its ids have the type of the data's.
BY_ID = "recommend_by_id"
ID_DTYPES = ("int64", "string")
OPTIONAL_OUTPUTS = {("user_biases", "float32", 2), ("top_titles", "string", 2)}
RANKING = {"recommend", "similar_items", "fold_in", BY_ID}
TABLE_ROWS = {
    "user_factors": "users",
    "user_biases": "users",
    "item_factors": "items",
    "item_biases": "items",
}


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
        """The path of a listed file.

        Raises:
            BundleError: the bundle has no such file.
        """
        if name not in self.manifest.files:
            raise BundleError(f"{self.path} has no {name}. {WAY_OUT}")
        return self.path / name

    def table(self, name: str) -> np.ndarray:
        """A table of the model, as [rows, ...] with row 0 for "unknown", read-only, mapped and not copied.

        Raises:
            BundleError: no graph holds a table of this name, or its type is one that numpy does not have.
        """
        for graph in self.manifest.graphs.values():
            for tensor in self._tensors[graph.file]:
                if tensor.name == name:
                    return self._array(graph.file, tensor)
        names = ", ".join(sorted({table.name for table in self.manifest.tables}))
        raise BundleError(f"{self.path} has no table {name!r}. It has: {names}.")

    def _array(self, file: str, tensor: WireTensor) -> np.ndarray:
        if tensor.dtype in ("bfloat16", "uint4", "int4", "string"):
            raise BundleError(
                f"{self.path}: {tensor.name!r} is {tensor.dtype}, which can't be read as an array"
            )
        content = _content(self.path, _mapped(self.path / file), tensor)
        array: np.ndarray = np.frombuffer(content, tensor.dtype).reshape(tensor.shape)
        return array


def open_bundle(path: str | Path) -> Bundle:
    """Check a bundle and open it. `path` may be a link to one: it is followed once, now.

    Reads every file once, in chunks; memory stays bounded whatever the size of the tables.

    Raises:
        BundleError: it is incomplete, damaged, inconsistent, of an unknown format version, or not to be
            trusted. The message names the file and the way out.
    """
    try:
        folder = Path(path).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"{path} is not a bundle: {reason}. `recsys export` makes one.") from None
    raw = read_raw(folder)
    manifest = parse_manifest(raw, folder)
    try:
        _check_files(folder, manifest)
        tensors = {
            graph.file: _check_graph(folder, graph.file, manifest) for graph in manifest.graphs.values()
        }
    except OSError as error:
        raise BundleError(f"{error.filename or folder} can't be read: {error.strerror}. {WAY_OUT}") from None
    _check_contracts(folder, manifest)
    _check_tables(folder, manifest, tensors)
    return Bundle(folder, manifest, hashlib.sha256(raw).hexdigest(), tensors)


def _check_files(folder: Path, manifest: Manifest) -> None:
    listed = manifest.files
    if len(listed) > MAX_FILES:
        raise BundleError(f"{folder / MANIFEST_NAME} lists {len(listed)} files, more than {MAX_FILES}.")
    for name in listed:
        if not _is_bare(name) or name == MANIFEST_NAME:
            raise BundleError(
                f"{folder / MANIFEST_NAME} lists the file {name!r}, which is no bare file name."
            )
    there = {entry.name: entry.lstat() for entry in folder.iterdir()}
    for name, status in there.items():
        if stat.S_ISLNK(status.st_mode) or not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise BundleError(
                f"{folder / name} is a link, a folder, or shared by a hard link; a bundle holds plain files "
                f"of its own. Copy it with `cp -rL`."
            )
    required = REQUIRED_FILES | {graph.file for graph in manifest.graphs.values()}
    if unlisted := sorted(required - listed.keys()):
        raise BundleError(f"{folder / MANIFEST_NAME} does not list {', '.join(unlisted)}. {WAY_OUT}")
    if missing := sorted(listed.keys() - there.keys()):
        raise BundleError(f"{folder} lacks {', '.join(missing)}. {WAY_OUT}")
    if extra := sorted(there.keys() - listed.keys() - {MANIFEST_NAME}):
        raise BundleError(
            f"{folder} holds {', '.join(extra)}, not in its manifest. Remove it, or copy again."
        )
    for name, expected in listed.items():
        size = there[name].st_size
        if size != expected.bytes:
            raise BundleError(
                f"{folder / name} has {size} bytes, its manifest says {expected.bytes}. {WAY_OUT}"
            )
        if name.endswith(".json") and size > MAX_JSON_BYTES:
            raise BundleError(f"{folder / name} has {size} bytes, more than {MAX_JSON_BYTES}.")
    for name, expected in listed.items():
        found = sha256_of(folder / name)
        if found != expected.sha256:
            raise BundleError(
                f"{folder / name} is damaged: its SHA-256 is {found}, its manifest says {expected.sha256}. "
                f"{WAY_OUT}"
            )


def _check_graph(folder: Path, name: str, manifest: Manifest) -> list[WireTensor]:
    data = _mapped(folder / name)
    tensors = read_tensors(data, str(folder / name))
    for tensor in tensors:
        if (external := tensor.external) is not None:
            listed = manifest.files.get(external.location)
            if not _is_bare(external.location) or listed is None:
                raise BundleError(
                    f"{folder / name}: tensor {tensor.name!r} lies in {external.location!r}, which is not a "
                    f"listed file. {WAY_OUT}"
                )
            length = tensor.n_bytes if external.length is None else external.length
            if length != tensor.n_bytes or external.offset + length > listed.bytes:
                raise BundleError(
                    f"{folder / name}: tensor {tensor.name!r} needs {tensor.n_bytes} bytes and points to "
                    f"{length} at {external.offset} of {external.location} ({listed.bytes} bytes). {WAY_OUT}"
                )
        if tensor.dtype in FLOATS and not _is_finite(folder, data, tensor):
            raise BundleError(
                f"{folder / name}: tensor {tensor.name!r} has NaN or infinite values: its answers would be "
                f"meaningless. Train and export again."
            )
    return tensors


def _is_finite(folder: Path, data: Buffer, tensor: WireTensor) -> bool:
    content = _content(folder, data, tensor)
    for start in range(0, len(content), CHUNK_BYTES):
        chunk = content[start : start + CHUNK_BYTES]
        if tensor.dtype == "bfloat16":
            finite = bool(((np.frombuffer(chunk, np.uint16) & 0x7F80) != 0x7F80).all())
        else:
            finite = bool(np.isfinite(np.frombuffer(chunk, tensor.dtype)).all())
        if not finite:
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
            raise BundleError(f"{path} is empty. {WAY_OUT}")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _is_bare(name: str) -> bool:
    return name not in ("", ".", "..") and not any(c in name for c in "/\\\0") and len(name) <= 255


def _check_contracts(folder: Path, manifest: Manifest) -> None:
    """Every graph's inputs and outputs, and what is baked in, are what its kind promises."""
    path = folder / MANIFEST_NAME
    sizes = (manifest.model.n_users, manifest.model.n_items)
    if min(sizes) < 1 or max(sizes) >= 1 << 31:
        raise BundleError(f"{path}: {sizes[0]} users and {sizes[1]} items can't be. {WAY_OUT}")
    for kind, contract in {**CONTRACTS, BY_ID: _by_id_contract(manifest)}.items():
        graph = manifest.graphs.get(kind)
        if graph is None:
            if kind in ("score", "recommend"):
                raise BundleError(f"{path} lists no {kind} graph. {WAY_OUT}")
            continue
        for what, found, expected in (
            ("inputs", graph.inputs, contract[0]),
            ("outputs", graph.outputs, contract[1]),
        ):
            named = {(tensor.name, tensor.dtype, len(tensor.shape)) for tensor in found}
            if named - OPTIONAL_OUTPUTS != expected:
                raise BundleError(f"{path}: the {what} of {kind} are {named}, not {expected}. {WAY_OUT}")
        if kind in RANKING and not (graph.top_k is not None and 1 <= graph.top_k <= manifest.model.n_items):
            raise BundleError(f"{path}: {kind} has the top_k {graph.top_k} of {sizes[1]} items. {WAY_OUT}")
        floats = {tensor.name for tensor in graph.outputs if tensor.dtype == "float32"}
        if graph.tolerance.keys() != floats or not all(0 < t < math.inf for t in graph.tolerance.values()):
            raise BundleError(f"{path}: the tolerance of {kind} is {graph.tolerance}. {WAY_OUT}")
        if not 1 <= graph.items[0] < graph.items[1] <= sizes[1] + 1:
            raise BundleError(f"{path}: the items of {kind} are {graph.items} of {sizes[1]}. {WAY_OUT}")


def _by_id_contract(manifest: Manifest) -> tuple[set[tuple[str, str, int]], set[tuple[str, str, int]]]:
    """What `recommend_by_id` promises, for the types that its ids have."""
    graph = manifest.graphs.get(BY_ID)
    dtypes = {tensor.name: tensor.dtype for tensor in graph.inputs} if graph else {}
    user, item = (
        dtype if (dtype := dtypes.get(name, "")) in ID_DTYPES else "int64"
        for name in ("user_id", "exclude_item_ids")
    )
    outputs = {("top_item_ids", item, 2), ("top_scores", "float32", 2), ("known", "bool", 1)}
    return {("user_id", user, 1), ("exclude_item_ids", item, 2)}, outputs


def _check_tables(folder: Path, manifest: Manifest, tensors: dict[str, list[WireTensor]]) -> None:
    """The tables that the manifest lists are in its graphs, with one row for each user or item, and row 0."""
    n_rows = {"users": manifest.model.n_users + 1, "items": manifest.model.n_items + 1}
    for table in manifest.tables:
        side = TABLE_ROWS.get(table.name)
        if side is not None and (not table.shape or table.shape[0] != n_rows[side]):
            raise BundleError(
                f"{folder / MANIFEST_NAME}: table {table.name} has the shape {table.shape}, the model has "
                f"{n_rows[side] - 1} {side}. {WAY_OUT}"
            )
        for kind in table.graphs:
            file = manifest.graphs[kind].file if kind in manifest.graphs else None
            held = [t for t in tensors.get(file or "", []) if t.name == table.name]
            if not any(
                (t.dtype, list(t.shape), t.n_bytes) == (table.dtype, table.shape, table.bytes) for t in held
            ):
                found = f"{held[0].dtype} {list(held[0].shape)}" if held else "none"
                raise BundleError(
                    f"{folder / MANIFEST_NAME}: table {table.name} of {kind} should be {table.dtype} "
                    f"{table.shape}; there is {found}. {WAY_OUT}"
                )
