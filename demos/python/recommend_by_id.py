"""Recommendations by id, from a bundle exported with --raw-ids: recommend_by_id.py BUNDLE USER_ID."""

import os
import sys
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or official builds report to their maker
import onnxruntime as ort

if len(sys.argv) != 3:
    sys.exit("Usage: recommend_by_id.py BUNDLE USER_ID")
graph, user_id = Path(sys.argv[1], "recommend_by_id.onnx"), sys.argv[2]
if not graph.exists():
    sys.exit(f"{graph} is missing: export the bundle with --raw-ids.")
session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
dtypes = {i.name: object if i.type == "tensor(string)" else np.int64 for i in session.get_inputs()}
try:
    user_ids = np.array([user_id]).astype(dtypes["user_id"])
    if str(user_ids[0]) != user_id:  # "1_0" is read as 10
        raise ValueError
except (ValueError, OverflowError):
    sys.exit(f"The user id must be an integer (int64), got {user_id!r}.")
feeds = {"user_id": user_ids, "exclude_item_ids": np.zeros((1, 0), dtypes["exclude_item_ids"])}
names = [output.name for output in session.get_outputs()]
found = dict(zip(names, session.run(names, feeds), strict=True))
if not found["known"][0]:
    sys.stderr.write(f"User {user_id} is not in this bundle: what follows is the average user's list.\n")
titles = found["top_titles" if "top_titles" in found else "top_item_ids"]
for item_id, score, title in zip(found["top_item_ids"][0], found["top_scores"][0], titles[0], strict=True):
    sys.stdout.write(f"{item_id}\t{score:.6f}\t{title}\n")
