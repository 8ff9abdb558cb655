"""Print how ONNX Runtime places graphs on CUDA, as JSON: python placed_by_onnxruntime.py FOLDER GRAPH...

For each graph: the operators on the CPU, sorted; the number of copies; whether a CUDA graph may be captured.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx
import onnxruntime as ort


def session(path: str, written: Path, *, captured: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.optimized_model_filepath = str(written)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    cuda = ("CUDAExecutionProvider", {"enable_cuda_graph": str(int(captured))})
    return ort.InferenceSession(path, options, providers=[cuda, "CPUExecutionProvider"])


def placed(path: str, written: Path) -> tuple[list[str], int, bool]:
    opened = session(path, written, captured=False)
    assert opened.get_providers()[0] == "CUDAExecutionProvider"
    on_cpu = [
        node.op_type
        for part in opened.get_provider_graph_assignment_info()
        if part.ep_name == "CPUExecutionProvider"
        for node in part.get_nodes()
    ]
    copies = sum(node.op_type.startswith("Memcpy") for node in onnx.load(written).graph.node)
    try:
        session(path, written, captured=True)
    except ort.capi.onnxruntime_pybind11_state.Fail:
        return sorted(on_cpu), copies, False
    return sorted(on_cpu), copies, True


if __name__ == "__main__":
    folder, *paths = sys.argv[1:]
    print(json.dumps({path: placed(path, Path(folder) / "optimised.onnx") for path in paths}))  # noqa: T201
