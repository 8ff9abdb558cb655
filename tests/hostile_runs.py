"""Mutations of a run folder, signed again: `run.json`, the tables of ratings and ids, the weights."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from hostile_bundles import Rng, any_bytes, json_text, json_value, parquet_column
from safetensors.numpy import load_file, save_file

from recsys.training.run_info import signed


def weights(path: Path, rng: Rng) -> str:
    """Change the values, the shape, the type or the name of a tensor."""
    tensors: dict[str, Any] = load_file(path)
    if not tensors:
        return "nothing"
    name = str(rng.choice(sorted(tensors)))
    what = str(rng.choice(["nan", "huge", "shape", "rows", "type", "name", "drop"]))
    tensor = tensors.pop(name)
    if what in ("nan", "huge") and tensor.size and tensor.dtype.kind == "f":
        tensor = tensor.copy()
        tensor.flat[rng.integers(tensor.size)] = np.nan if what == "nan" else 1e38
    elif what == "shape":
        tensor = tensor.reshape(-1)
    elif what == "rows":
        tensor = np.concatenate([tensor, tensor]) if tensor.ndim else tensor
    elif what == "type":
        tensor = tensor.astype(rng.choice([np.float64, np.float16, np.int64]))
    if what != "drop":
        tensors[name + "x" * (what == "name")] = tensor
    save_file(tensors, path)
    return f"{name} {what}"


KINDS = {
    "json": [json_value, json_value, json_text, any_bytes],
    "parquet": [parquet_column, parquet_column, any_bytes],
    "safetensors": [weights, weights, any_bytes],
}


def mutate_run(run: Path, rng: Rng) -> str:
    """Change a copied run in one or two places and sign it again; says what was changed."""
    changes = []
    names = sorted(path.name for path in run.iterdir())
    for name in rng.choice(names, rng.integers(1, 3), replace=False).tolist():
        how = KINDS[name.rpartition(".")[2]]
        change = how[rng.integers(len(how))]
        changes.append(f"{name}: {change.__name__} {change(run / name, rng)}")
    path = run / "run.json"
    # Unless run.json is none any more, or names other files.
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError):
        document = json.loads(path.read_bytes())
        for name in document["files"]:
            data = (run / name).read_bytes()
            document["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        document["checksum"] = document.pop("checksum", "")  # the last field
        path.write_text(json.dumps(document, indent=2))
        path.write_bytes(signed(path.read_bytes()))
    return "; ".join(changes)
