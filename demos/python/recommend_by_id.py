"""The same between ids: recommend_by_id.py BUNDLE USER_ID. The bundle was exported with --raw-ids."""

import sys

import numpy as np
import onnxruntime as ort

bundle, user_id = sys.argv[1], sys.argv[2]
session = ort.InferenceSession(f"{bundle}/recommend_by_id.onnx", providers=["CPUExecutionProvider"])
dtypes = {i.name: object if i.type == "tensor(string)" else np.int64 for i in session.get_inputs()}
feeds = {
    "user_id": np.array([user_id]).astype(dtypes["user_id"]),
    "exclude_item_ids": np.zeros((1, 0), dtypes["exclude_item_ids"]),
}
names = [output.name for output in session.get_outputs()]
found = dict(zip(names, session.run(names, feeds), strict=True))
titles = found["top_titles" if "top_titles" in found else "top_item_ids"]
for item_id, score, title in zip(found["top_item_ids"][0], found["top_scores"][0], titles[0], strict=True):
    sys.stdout.write(f"{item_id}\t{score:.6f}\t{title}\n")
