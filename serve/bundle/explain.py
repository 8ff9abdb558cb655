"""What `explain.onnx` gives, as the manifest says it."""

from __future__ import annotations

import msgspec


class Explain(msgspec.Struct, frozen=True, kw_only=True):
    """How `explain.onnx` splits the score of an item for a new user."""

    steps: int
    """Of conjugate gradients, in the graph; without meaning where nothing is solved."""
