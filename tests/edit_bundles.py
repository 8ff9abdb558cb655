"""Bundles whose tables are changed after export, with checksums that fit. Needs onnx."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import onnx
from onnx import numpy_helper


def edit_table(bundle: Path, graph: str, table: str, change) -> None:
    """Change a table inside a graph, and forge the manifest so that the checksums fit again."""
    path = bundle / f"{graph}.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == table:
            array = numpy_helper.to_array(tensor).copy()
            change(array)
            tensor.CopyFrom(numpy_helper.from_array(array, table))
    onnx.save(model, path)
    manifest = json.loads((bundle / "manifest.json").read_text())
    data = path.read_bytes()
    manifest["files"][path.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
