"""Answers from bundles (numpy, onnxruntime); owns the bundle format."""

import os

# ONNX Runtime's official builds report to their maker, unless this is said before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# The threads of numpy's matrix library would wait for work in a loop, as long as libraries load.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
