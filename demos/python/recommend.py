"""Ten lines that answer from a bundle with numpy and onnxruntime alone: recommend.py BUNDLE USER_INDEX."""

import sys

import numpy as np
import onnxruntime as ort

bundle, user_index = sys.argv[1], int(sys.argv[2])
session = ort.InferenceSession(f"{bundle}/recommend.onnx", providers=["CPUExecutionProvider"])
feeds = {"user_index": np.array([user_index]), "exclude_item_indices": np.zeros((1, 1), np.int64)}
indices, scores = session.run(["top_item_indices", "top_scores"], feeds)
for index, score in zip(indices[0, :10], scores[0, :10], strict=True):
    sys.stdout.write(f"{index}\t{score:.6f}\n")
