"""The small bundles of tests/fixtures. Nothing here needs torch, onnx or pandas."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parent / "fixtures" / "bundles"
# The same with every optional graph that runs elsewhere.
RAW_ID_FIXTURES = FIXTURES.with_name("raw_id_bundles")
BUNDLES = ["dot", "dot-bias", "mlp", "dot-bias-string-ids", "parts", "ranking"]
"""`parts`: lists by parts that rank, with predicted ratings beside. `ranking`: no ratings at all."""


def price_of(item_index: int) -> float:
    """A feature of the items that is a number; NaN where an item has none."""
    return 0.25 + 1.5 * (item_index * 7 % 20) if item_index % 9 else math.nan


def edit_manifest(bundle: Path, edit: Callable[[dict[str, Any]], object] = lambda manifest: None) -> None:
    """Change the manifest of a copied bundle, and have it list all files as they are now."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_bytes())
    edit(manifest)
    for file in bundle.iterdir():
        if file != path:
            data = file.read_bytes()
            manifest["files"][file.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps(manifest))
