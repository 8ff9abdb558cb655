"""Answer from a bundle on CUDA by CUDA graphs: python captured_by_onnxruntime.py BUNDLE

Each step is announced on stderr, where stand-ins for CUDA's libraries say what they are asked for.
"""

from __future__ import annotations

import sys
from functools import partial

import numpy as np

from serve.bundle.bundle import open_bundle
from serve.runtime.cuda import DeviceTables
from serve.runtime.cuda_graphs import CapturedGraph
from serve.runtime.session import OnCuda, open_session, run_named


def say(step: str) -> None:
    print(step, file=sys.stderr, flush=True)  # noqa: T201


def main(path: str) -> None:
    bundle = open_bundle(path)
    tables = DeviceTables(bundle)
    graphs = {}
    for name in ("recommend", "score"):
        say(f"open {name}")
        on_cuda = OnCuda(tf32=name == "score", captured=name == "recommend", tables=partial(tables.of, name))
        graphs[name] = open_session(bundle.path / f"{name}.onnx", "cuda", on_cuda=on_cuda)
    say("open score alone")
    open_session(bundle.path / "score.onnx", "cuda")
    asked = graphs["score"].get_provider_options()["CUDAExecutionProvider"]
    assert (asked["use_tf32"], asked["enable_cuda_graph"]) == ("1", "0")
    captured = CapturedGraph(graphs["recommend"], 256)
    for n_rows in (3, 4, 5, 300, 2, 7):
        say(f"run {n_rows}")
        feeds = {
            "user_index": np.ones(n_rows, np.int64),
            "exclude_item_indices": np.zeros((n_rows, 1), np.int64),
        }
        outputs = run_named(captured, feeds)
        assert {len(one) for one in outputs.values()} == {n_rows}
    say("end")


if __name__ == "__main__":
    main(sys.argv[1])
