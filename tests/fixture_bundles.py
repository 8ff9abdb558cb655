"""The small bundles of tests/fixtures. Nothing here needs torch, onnx or pandas."""

from __future__ import annotations

from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures" / "bundles"
BUNDLES = ["dot", "dot-bias", "mlp", "dot-bias-string-ids"]
