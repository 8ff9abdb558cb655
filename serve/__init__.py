"""Answers from bundles (numpy, onnxruntime); owns the bundle format."""

import os

# ONNX Runtime's official builds report to their maker, unless this is said before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
