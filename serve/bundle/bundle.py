"""A bundle on disk, checked before ONNX Runtime sees a byte of it.

`open_bundle` checks, in this order: the format version and the manifest's types; that exactly the listed
files are there, as regular files under bare names, neither linked nor shared; their sizes and SHA-256; that
every graph is a whole ONNX file whose external data lies inside a listed file; that every float is finite;
that the manifest's graphs and tables are consistent. Whether graphs answer as they must is a question to a
runtime: `Recommender.check`.

It does not defend against a manifest and files forged together (checksums prove that a bundle is whole, not
who made it: sign or hash the folder yourself if it comes from strangers), a process that changes the files
while they are served, and bugs in ONNX Runtime that a well-formed graph triggers.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from serve.bundle.manifest import Manifest, Tensor, parse_manifest, read_raw
from serve.bundle.onnx_wire import FLOATS, Buffer, WireTensor, read_tensors
from serve.errors import BundleError, NotABundleError
from serve.files.checksum import sha256_of
from serve.files.names import MANIFEST_NAME

ADVICE = "Copy the bundle again, or export it again."
MAX_FILES = 1000
MAX_JSON_BYTES = 64 << 20
CHUNK_BYTES = 4 << 20
REQUIRED_FILES = {"users.parquet", "items.parquet", "seen.parquet"}

# Graph that a `Recommender` calls -> its inputs, and the outputs that are read, as (name, dtype, rank). A
# graph may have further outputs, and a bundle further graphs.
_USER = ("user_index", "int64", 1)
_ITEM = ("item_index", "int64", 1)
_TOP = {("top_item_indices", "int64", 2), ("top_scores", "float32", 2)}
CALLED: dict[str, tuple[set[tuple[str, str, int]], set[tuple[str, str, int]]]] = {
    "score": ({_USER, _ITEM}, {("score", "float32", 1)}),
    "recommend": ({_USER, ("exclude_item_indices", "int64", 2)}, _TOP),
    "similar_items": ({_ITEM}, _TOP),
    "fold_in": ({("item_indices", "int64", 2), ("ratings", "float32", 2)}, _TOP),
}
# Of `recommend` and `fold_in`, where the scores that order a list are no ratings: `recommend` has it wherever
# `score` predicts ratings, `fold_in` where these can be folded in.
TOP_RATINGS = ("top_ratings", "float32", 2)
REQUIRED_GRAPHS = ("score", "recommend")
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
        """The path of a listed file. Raises BundleError: the bundle has no such file."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.path} has no {name}. {ADVICE}")
        return self.path / name

    def table(self, name: str) -> np.ndarray:
        """A table of the model, as [rows, ...] with row 0 for "unknown", read-only, mapped and not copied.

        Raises:
            BundleError: no graph holds a table of this name, or its type is one that numpy does not have.
        """
        for graph in self.manifest.graphs.values():
            for tensor in self._tensors[graph.file]:
                if tensor.name == name:
                    if tensor.dtype in ("bfloat16", "uint4", "int4", "string"):
                        raise BundleError(f"{self.path}: {name!r} is {tensor.dtype}, no type of numpy")
                    content = _content(self.path, _mapped(self.path / graph.file), tensor)
                    array: np.ndarray = np.frombuffer(content, tensor.dtype).reshape(tensor.shape)
                    return array
        names = ", ".join(sorted({table.name for table in self.manifest.tables}))
        raise BundleError(f"{self.path} has no table {name!r}. It has: {names}.")


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
    try:
        _check_files(folder, manifest)
        tensors = {
            graph.file: _check_graph(folder, graph.file, manifest) for graph in manifest.graphs.values()
        }
    except OSError as error:
        raise BundleError(f"{error.filename or folder} can't be read: {error.strerror}. {ADVICE}") from None
    if wrong := _check_graphs(manifest) or _check_tables(manifest, tensors):
        raise BundleError(f"{folder / MANIFEST_NAME}: {wrong}. {ADVICE}")
    return Bundle(folder, manifest, hashlib.sha256(raw).hexdigest(), tensors)


def _check_files(folder: Path, manifest: Manifest) -> None:
    listed, path = manifest.files, folder / MANIFEST_NAME
    if len(listed) > MAX_FILES:
        raise BundleError(f"{path} lists {len(listed)} files, more than {MAX_FILES}.")
    for name in listed:
        if not _is_bare(name) or name == MANIFEST_NAME:
            raise BundleError(f"{path} lists the file {name!r}, which is no bare file name.")
    there = {entry.name: entry.lstat() for entry in folder.iterdir()}
    for name, status in there.items():
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise BundleError(
                f"{folder / name} is a link, a folder, or shared by a hard link; a bundle holds plain files "
                f"of its own. Copy it with `cp -rL`."
            )
    required = REQUIRED_FILES | {graph.file for graph in manifest.graphs.values()}
    if unlisted := sorted(required - listed.keys()):
        raise BundleError(f"{path} does not list {', '.join(unlisted)}. {ADVICE}")
    if missing := sorted(listed.keys() - there.keys()):
        raise BundleError(f"{folder} lacks {', '.join(missing)}. {ADVICE}")
    if extra := sorted(there.keys() - listed.keys() - {MANIFEST_NAME}):
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


def _check_graph(folder: Path, name: str, manifest: Manifest) -> list[WireTensor]:
    """The tensors of a graph, each in its place and finite."""
    data = _mapped(folder / name)
    tensors = read_tensors(data, str(folder / name))
    for tensor in tensors:
        where = f"{folder / name}: tensor {tensor.name!r}"
        if (external := tensor.external) is not None:
            listed = manifest.files.get(external.location)
            if not _is_bare(external.location) or listed is None:
                raise BundleError(
                    f"{where} lies in {external.location!r}, which is not a listed file. {ADVICE}"
                )
            length = tensor.n_bytes if external.length is None else external.length
            if length != tensor.n_bytes or external.offset + length > listed.bytes:
                raise BundleError(
                    f"{where} needs {tensor.n_bytes} bytes and points to {length} at {external.offset} of "
                    f"{external.location} ({listed.bytes} bytes). {ADVICE}"
                )
        if tensor.dtype in FLOATS and not _is_finite(folder, data, tensor):
            raise BundleError(f"{where} has NaN or infinite values. Train and export again.")
    return tensors


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


def signature(tensors: Iterable[Tensor]) -> set[tuple[str, str, int]]:
    """(name, dtype, rank) of each input or output."""
    return {(tensor.name, tensor.dtype, len(tensor.shape)) for tensor in tensors}


def _check_graphs(manifest: Manifest) -> str | None:
    """What the manifest's graphs lack to be called, or None."""
    n_users, n_items = manifest.model.n_users, manifest.model.n_items
    if not (1 <= n_users < 1 << 31 and 1 <= n_items < 1 << 31):
        return f"{n_users} users and {n_items} items are impossible"
    if missing := [name for name in REQUIRED_GRAPHS if name not in manifest.graphs]:
        return f"it lists no {missing[0]} graph"
    for name, graph in manifest.graphs.items():
        inputs, outputs = signature(graph.inputs), signature(graph.outputs)
        called = CALLED.get(name, (inputs, set()))
        if inputs != called[0]:
            return f"the inputs of {name} are {inputs}, not {called[0]}"
        if not called[1] <= outputs:
            return f"the outputs of {name} are {outputs}, without {called[1] - outputs}"
        if wrong := _fault_of_ratings(name, outputs, manifest):
            return wrong
        ranks = any(output.startswith("top_") for output, _, _ in outputs)
        if not (1 <= (graph.top_k or 0) <= n_items if ranks else graph.top_k is None):
            return f"{name} has the top_k {graph.top_k} of {n_items} items"
        floats = {output for output, dtype, _ in outputs if dtype == "float32"}
        if graph.tolerance.keys() != floats or not all(0 < t < math.inf for t in graph.tolerance.values()):
            return f"the tolerance of {name} is {graph.tolerance}"
        if not 1 <= graph.items[0] < graph.items[1] <= n_items + 1:
            return f"the items of {name} are {graph.items} of {n_items}"
    return None


def _fault_of_ratings(name: str, outputs: set[tuple[str, str, int]], manifest: Manifest) -> str | None:
    """What is wrong with the predicted ratings beside the scores of a list, or None."""
    model = manifest.model
    if name not in ("recommend", "fold_in"):
        return None
    if model.lists == "ratings" and model.scores == "ranking":
        return "its lists are ordered by ratings, which nothing predicts"
    found = {output for output in outputs if output[0] == TOP_RATINGS[0]}
    if found - {TOP_RATINGS}:
        return f"the outputs of {name} are {outputs}: not {TOP_RATINGS}"
    is_rated = (model.lists, model.scores) == ("ranking", "ratings")
    if found and not is_rated:
        return f"{name} has top_ratings, though {model.lists} order its lists and scores are {model.scores}"
    if is_rated and not found and name == "recommend":
        return f"{name} has no top_ratings beside the scores that order its lists"
    return None


def _check_tables(manifest: Manifest, tensors: dict[str, list[WireTensor]]) -> str | None:
    """How the manifest's tables differ from those in the graphs, or from the model's sizes; or None."""
    n_rows = {"users": manifest.model.n_users + 1, "items": manifest.model.n_items + 1}
    for table in manifest.tables:
        side = TABLE_ROWS.get(table.name)
        if side is not None and table.shape[:1] != [n_rows[side]]:
            return f"{table.name} has the shape {table.shape}, and the model has {n_rows[side] - 1} {side}"
        for name in table.graphs:
            held = tensors[manifest.graphs[name].file] if name in manifest.graphs else []
            found = [(t.dtype, list(t.shape), t.n_bytes) for t in held if t.name == table.name]
            if (table.dtype, table.shape, table.bytes) not in found:
                wanted = f"{table.dtype} {table.shape}"
                return f"table {table.name} of {name} should be {wanted}; there is {found or 'none'}"
    return None
