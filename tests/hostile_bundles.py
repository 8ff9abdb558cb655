"""Mutations of a bundle, re-signed: whatever a stranger may have put there, with checksums that fit."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fixture_bundles import edit_manifest

Rng = np.random.Generator

VALUES: list[Any] = [
    None, True, 0, -1, 1, 2, 51, 10**6, 2**31, 2**63, 2**64, 10**30, -0.5, 1e-300, 1e12, 1e300,
    "", "x", "9", "..", "x" * 5000, "\x00", "=1+1", "é\u202e", [], [[]], [1, 2], [0.0, 1e12], {}, {"a": 1},
]  # fmt: skip


def mutate(bundle: Path, rng: Rng) -> str:
    """Change a copied bundle in one or two places and sign it again; says what was changed."""
    changes = []
    names = sorted(path.name for path in bundle.iterdir())
    for name in rng.choice(names, rng.integers(1, 3), replace=False).tolist():
        kind = name.rpartition(".")[2]
        how = KINDS[kind][rng.integers(len(KINDS[kind]))]
        changes.append(f"{name}: {how.__name__} {how(bundle / name, rng)}")
    # Unless the manifest is none any more.
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        edit_manifest(bundle)
    return "; ".join(changes)


def json_value(path: Path, rng: Rng) -> str:
    """Replace, remove or repeat a value anywhere in a JSON document."""
    document = json.loads(path.read_bytes())
    places: list[tuple[Any, Any, str]] = []

    def walk(value: Any, where: str, depth: int = 0) -> None:
        pairs = value.items() if isinstance(value, dict) else enumerate(value[:20])
        for key, inner in pairs:
            places.append((value, key, f"{where}.{key}"))
            if isinstance(inner, (dict, list)):
                walk(inner, f"{where}.{key}", depth + 1)

    walk(document, "")
    parent, key, where = places[rng.integers(len(places))]
    match rng.integers(4):
        case 0 if isinstance(parent, dict):
            del parent[key]
            what = "removed"
        case 1:
            parent[key] = [parent[key]] * int(rng.integers(1, 200))
            what = "repeated"
        case 2 if isinstance(parent[key], (int, float)) and not isinstance(parent[key], bool):
            parent[key] = parent[key] * float(rng.choice([-1, 2, 0.5, 1e6])) + int(rng.integers(-1, 2))
            what = f"= {parent[key]}"
        case _:
            parent[key] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
            what = f"= {parent[key]!r:.40}"
    path.write_text(json.dumps(document))
    return f"{where} {what}"


def json_text(path: Path, rng: Rng) -> str:
    """Put odd text into a JSON document: deep, not finite, not UTF-8, or twice the same key."""
    data = path.read_bytes()
    places = [place for place, byte in enumerate(data) if byte in b":[,"]
    place = places[rng.integers(len(places))] + 1
    odd = [b"[" * 5000 + b"]" * 5000, b"NaN", b"1e999", b'"\xff\xfe"', b'{"a":' * 3000 + b"1" + b"}" * 3000,
           b'"\\ud800"', b"1" * 5000, b"-", b" " * 100_000]  # fmt: skip
    added = odd[rng.integers(len(odd))]
    path.write_bytes(data[:place] + added + b"," + data[place:])
    return f"{added[:10]!r} at {place}"


def any_bytes(path: Path, rng: Rng) -> str:
    """Change, remove, repeat or add some bytes."""
    data = bytearray(path.read_bytes())
    start = int(rng.integers(len(data)))
    stop = min(len(data), start + int(rng.choice([1, 1, 4, 16, 300])))
    match rng.integers(4):
        case 0:
            for place in range(start, stop):
                data[place] ^= int(rng.integers(1, 256))
        case 1:
            del data[start:stop]
        case 2:
            data[start:start] = data[start:stop] * 3
        case _:
            data[start:stop] = rng.bytes(int(rng.integers(1, 64)))
    path.write_bytes(data)
    return f"{start} to {stop}"


def parquet_column(path: Path, rng: Rng) -> str:
    """Change values, the type, the length or the encoding of a column."""
    table = pq.read_table(path)
    name = str(rng.choice(table.column_names))
    place = table.column_names.index(name)
    column = table.column(name).to_pylist()
    row = int(rng.integers(len(column)))
    options: dict[str, Any] = {"compression": str(rng.choice(["snappy", "none", "zstd", "gzip"]))}
    what = str(rng.choice(["value", "null", "same", "type", "rows", "column", "encoding", "bytes", "group"]))
    kind = table.schema.field(name).type
    try:
        if what == "value":
            numbers = [0, -1, 51, 10**6, 2**31 - 1]
            column[row] = "z" * int(rng.choice([0, 9, 70_000])) if kind == pa.string() else numbers[row % 5]
        elif what == "null":
            column[row] = None
        elif what == "same":
            column = [column[row]] * len(column)
        elif what == "rows":
            table = table.slice(0, row) if row % 2 else pa.concat_tables([table] * 3)
            column = table.column(name).to_pylist()
        elif what == "encoding":
            options |= {"use_dictionary": False, "data_page_version": str(rng.choice(["1.0", "2.0"]))}
            if kind == pa.string():
                options["column_encoding"] = {name: str(rng.choice(["DELTA_BYTE_ARRAY", "PLAIN"]))}
        elif what == "group":
            options["row_group_size"] = int(rng.integers(1, 60))
        kind = rng.choice([pa.string(), pa.int8(), pa.float64(), pa.int64()]) if what == "type" else kind
        if what == "bytes" and kind == pa.string():
            texts = [None if text is None else text.encode() + b"\xff" for text in column]
            binary = pa.array(texts, pa.binary())
            kind, values = pa.string(), pa.Array.from_buffers(pa.string(), len(texts), binary.buffers())
        else:
            values = pa.array(column, pa.int64() if what == "type" else None).cast(kind)
        table = table.remove_column(place) if what == "column" else table.set_column(place, name, values)
    except (pa.ArrowException, OverflowError, TypeError):
        return "nothing"
    if not table.column_names:
        return "nothing"
    pq.write_table(table, path, store_schema=False, **options)
    return f"{name} {what} {options}"


def onnx_part(path: Path, rng: Rng) -> str:
    """Change a table, a shape, a node, a name or an attribute of a graph."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    graph = model.graph
    what = str(rng.choice(["table", "dims", "op", "input", "output", "attribute", "drop", "swap", "int"]))
    tensor = graph.initializer[rng.integers(len(graph.initializer))]
    node = graph.node[rng.integers(len(graph.node))]
    if what in ("table", "int"):
        array = numpy_helper.to_array(tensor).copy()
        if what == "int" or array.dtype.kind != "f":
            array = (array + rng.choice([-1, 1, 7, 10**6])).astype(array.dtype)
        else:
            with np.errstate(over="ignore"):
                array[rng.random(array.shape) < 0.3] *= rng.choice([0, -1, 1e30, np.nan, 1e-30])
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    elif what == "dims" and tensor.dims:
        tensor.dims[0] = int(rng.choice([0, 1, tensor.dims[0] + 1, 2**31, 2**62]))
    elif what == "op":
        node.op_type = str(rng.choice(["Add", "Sub", "Mul", "Relu", "Identity", "Neg", "Loop", "NonZero"]))
    elif what == "input" and node.input:
        others = [value.name for value in graph.input] + [one.name for one in graph.initializer]
        node.input[0] = str(rng.choice(others))
    elif what == "output":
        output = graph.output[rng.integers(len(graph.output))]
        output.name = str(rng.choice(["top_scores", "top_item_indices", "score", "x"]))
    elif what == "attribute" and node.attribute:
        attribute = node.attribute[0]
        attribute.i, attribute.f = int(rng.integers(-2, 3)), float(rng.choice([0.0, -1.0, 1e30]))
    elif what == "drop":
        graph.node.remove(node)
    elif what == "swap" and len(graph.output) > 1:
        names = [graph.output[0].name, graph.output[1].name]
        for one in graph.node:
            for place, name in enumerate(one.output):
                if name in names:
                    one.output[place] = names[1 - names.index(name)]
    path.write_bytes(model.SerializeToString())
    return f"{what} {tensor.name} {node.op_type}"


KINDS: dict[str, list[Callable[[Path, Rng], str]]] = {
    "json": [json_value, json_value, json_value, json_text, any_bytes],
    "parquet": [parquet_column, parquet_column, any_bytes],
    "onnx": [onnx_part, onnx_part, any_bytes],
    "md": [any_bytes],
}
