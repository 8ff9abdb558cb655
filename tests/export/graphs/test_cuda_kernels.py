"""Whether the graphs of bundles run on CUDA as a whole, so that a CUDA graph can be captured of them.

`recommend_fast.onnx` is not here: it answers on the CPU only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from fixture_bundles import FIXTURES, RAW_ID_FIXTURES
from onnx import parser

from . import placed_by_onnxruntime
from .cuda_placement import place
from .cuda_stand_ins import PROVIDER, build

GRAPHS = sorted(FIXTURES.glob("*/*.onnx")) + sorted(RAW_ID_FIXTURES.glob("*/*.onnx"))
BY_ID = [path for path in GRAPHS if path.stem == "recommend_by_id"]


def name_of(path: Path) -> str:
    return str(path.relative_to(FIXTURES.parent))


def optimised(path: Path, folder: Path) -> onnx.ModelProto:
    """The graph as ONNX Runtime rewrites it before it chooses devices."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.intra_op_num_threads = 1
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


@pytest.mark.parametrize("path", [path for path in GRAPHS if path not in BY_ID], ids=name_of)
def test_every_node_has_a_kernel_and_nothing_is_copied(path, tmp_path) -> None:
    for model in (onnx.load(path), optimised(path, tmp_path)):
        placement = place(model)
        assert placement.no_kernel == []
        assert placement.copies == []


@pytest.mark.parametrize("path", BY_ID, ids=name_of)
def test_only_strings_are_on_the_cpu(path) -> None:
    """No CUDA kernel takes strings: these optional graphs copy indices for titles, and can't be captured."""
    placement = place(onnx.load(path))
    kinds = {lack.partition(": ")[2] for lack in placement.no_kernel}
    titles, ids = (
        "Gather 13 has no CUDA kernel of T = string",
        "LabelEncoder 4 has no CUDA kernel of T1 = string",
    )
    assert kinds == ({titles, ids} if "string-ids" in path.parent.name else {titles})
    assert placement.copies


def made_up(inputs: str, outputs: str, nodes: str, opset: int = 18) -> onnx.ModelProto:
    """A graph from ONNX' text form; node n is named "n0", "n1", …"""
    opsets = f'"" : {opset}, "ai.onnx.ml" : 3'
    model = parser.parse_model(
        f"<ir_version: 8, opset_import: [{opsets}]> made_up ({inputs}) => ({outputs}) {{ {nodes} }}"
    )
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    return model


@pytest.mark.parametrize(
    ("model", "lack"),
    [
        (
            made_up("bool[N] c, bool[N] x", "bool[N] y", "a = Or (c, x) y = Where (c, a, x)"),
            "n1: Where 16 has no CUDA kernel of T = bool",
        ),
        (
            made_up("uint8[N] x", "bool[N] y", "y = Less (x, x)"),
            "n0: Less 13 has no CUDA kernel of T = uint8",
        ),
        (made_up("float[N] x", "int64[N] y", "y = Cast <to = 7> (x)", 21), "n0: Cast 21 has no CUDA kernel"),
        (made_up("float[N, N] x", "float y", "y = Det (x)"), "n0: Det 11 has no CUDA kernel"),
    ],
)
def test_what_has_no_kernel_is_named(model, lack) -> None:
    assert place(model).no_kernel == [lack]


def test_a_node_on_the_cpu_between_others_is_copied_from_and_to() -> None:
    placement = place(made_up("float[N] x", "float[N] y", "a = Neg (x) b = Tan (a) y = Neg (b)"))
    assert placement.on_cpu == ["Tan"]
    assert placement.copies == ["a", "b"]


def test_arithmetic_on_shapes_is_on_the_cpu_and_copied_only_where_it_is_no_shape() -> None:
    shapes = "s = Shape (x) t = Add (s, s) "
    reshaped = place(made_up("float[N] x", "float[M] y", shapes + "e = Expand (x, s) y = Reshape (e, t)"))
    assert (reshaped.on_cpu, reshaped.copies) == (["Add"], [])
    scaled = place(
        made_up("float[N] x", "float[N] y", shapes + "d = Cast <to = 1> (t) r = Neg (x) y = Mul (r, d)")
    )
    assert (scaled.on_cpu, scaled.copies) == (["Add", "Cast"], ["d"])


def test_an_input_that_is_read_as_numbers_and_as_a_shape_is_copied() -> None:
    nodes = "r = Reshape (x, s) d = Cast <to = 1> (s) y = Mul (r, d)"
    assert place(made_up("float[N] x, int64[1] s", "float[N] y", nodes)).copies == ["s"]


@pytest.mark.slow
@pytest.mark.skipif(not (PROVIDER.exists() and shutil.which("gcc")), reason="needs onnxruntime-gpu and gcc")
def test_onnxruntime_places_them_so_with_stand_ins_for_cuda(tmp_path) -> None:
    build(tmp_path)
    done = subprocess.run(
        [sys.executable, placed_by_onnxruntime.__file__, tmp_path, *GRAPHS],
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    computed = {str(path): place(onnx.load(path)) for path in GRAPHS}
    assert found == {
        path: [sorted(placement.on_cpu), len(placement.copies), not placement.copies]
        for path, placement in computed.items()
    }
