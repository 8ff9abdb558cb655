"""Writes bundles (torch, onnx): arrays become ONNX graphs, graphs become a verified bundle."""
