"""Writes bundles (torch, onnx): arrays become ONNX graphs, graphs become a verified bundle."""

import os

# ONNX Runtime's official builds report to their maker, unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
