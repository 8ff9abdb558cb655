"""Answers from bundles (numpy, onnxruntime); owns the bundle format."""

import os

# ONNX Runtime's official builds report to their maker, unless this is said before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# OpenBLAS' threads wait for work in a loop of 2^26 cycles, which costs processor time while libraries load.
# With 2^4, the least, they sleep almost at once.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
