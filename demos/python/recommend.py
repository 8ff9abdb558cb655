"""Answers from a bundle with numpy and onnxruntime alone: recommend.py BUNDLE USER_INDEX."""

import json
import os
import sys
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or official builds report to their maker
import onnxruntime as ort

try:
    bundle, user_index = Path(sys.argv[1]), int(sys.argv[2])
    n_users = json.loads((bundle / "manifest.json").read_bytes())["model"]["n_users"]
    (bundle / "recommend.onnx").stat()  # a bundle in shards has none
except (IndexError, ValueError, OSError) as error:
    sys.exit(f"Usage: recommend.py BUNDLE USER_INDEX ({error})")
if str(user_index) != sys.argv[2] or not 0 <= user_index <= n_users:  # int() also reads 1_0
    sys.exit(f"The user index must lie in 0 to {n_users}, got {sys.argv[2]}.")
session = ort.InferenceSession(bundle / "recommend.onnx", providers=["CPUExecutionProvider"])
feeds = {"user_index": np.array([user_index]), "exclude_item_indices": np.zeros((1, 1), np.int64)}
indices, scores = session.run(["top_item_indices", "top_scores"], feeds)
sys.stdout.writelines(f"{i}\t{score:.6f}\n" for i, score in zip(indices[0, :10], scores[0, :10], strict=True))
