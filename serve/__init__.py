"""Answers from bundles (numpy, onnxruntime); owns the bundle format."""
