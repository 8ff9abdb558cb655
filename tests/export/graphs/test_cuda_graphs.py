"""What ONNX Runtime does with CUDA graphs and shared tables, asked without a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from export.foreign.bundle import bundle_arrays
from serve.bundle.bundle import Bundle
from serve.runtime.cuda import DeviceTables

from . import captured_by_onnxruntime
from .cuda_stand_ins import COUNTED, PROVIDER, build

N_ITEMS, N_FACTORS = 60_000, 16


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A product whose lists and scores have the same two tables."""
    rng = np.random.default_rng(0)
    return bundle_arrays(
        user_factors=rng.normal(0, 0.3, (50, N_FACTORS)).astype(np.float32),
        item_factors=rng.normal(0, 0.3, (N_ITEMS, N_FACTORS)).astype(np.float32),
        output=tmp_path_factory.mktemp("bundle") / "bundle",
        scores="ratings",
        rating_scale=(-5, 5),
        tables_file="always",
    )


def test_graphs_answer_from_one_copy_of_a_table(bundle: Bundle) -> None:
    tables = DeviceTables(bundle, "cpu")
    feeds = {
        "recommend": {"user_index": np.arange(9), "exclude_item_indices": np.zeros((9, 1), np.int64)},
        "score": {"user_index": np.arange(9), "item_index": np.arange(9)},
    }
    addresses = set()
    for name, output in (("recommend", "top_scores"), ("score", "score")):
        options, values = ort.SessionOptions(), tables.of(name)
        for table, value in values.items():
            options.add_initializer(table, value)
        addresses.add(tuple(values[table].data_ptr() for table in ("user_factors", "item_factors")))
        path = bundle.path / f"{name}.onnx"
        found, right = (
            ort.InferenceSession(path, one, providers=["CPUExecutionProvider"]).run([output], feeds[name])
            for one in (options, None)
        )
        np.testing.assert_allclose(found, right, atol=1e-5)
    assert len(addresses) == 1


def calls_of(stderr: str) -> dict[str, list[list[str]]]:
    """The calls that stand-ins were asked for, in words, by the step that made them."""
    steps: dict[str, list[list[str]]] = {}
    for line in stderr.splitlines():
        if line.startswith("cuda"):
            steps[list(steps)[-1]].append(line.split())
        else:
            steps[line] = []
    return steps


@pytest.mark.slow
@pytest.mark.skipif(not (PROVIDER.exists() and shutil.which("gcc")), reason="needs onnxruntime-gpu and gcc")
def test_onnxruntime_replays_graphs_and_copies_no_table_again(bundle: Bundle, tmp_path: Path) -> None:
    build(tmp_path, COUNTED)
    done = subprocess.run(
        [sys.executable, captured_by_onnxruntime.__file__, bundle.path],
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    steps = calls_of(done.stderr)
    table = 4 * (N_ITEMS + 1) * N_FACTORS

    def allocated(step: str) -> int:
        return sum(int(size) for name, *size in steps[step] for size in size)

    assert allocated("open recommend") >= table
    assert allocated("open score") == 0
    assert allocated("open score alone") >= table
    counts = {step: Counter(name for name, *_ in calls) for step, calls in steps.items() if "run" in step}
    captures = {step: (one["cudaStreamBeginCapture"], one["cudaGraphLaunch"]) for step, one in counts.items()}
    assert captures == {
        "run 3": (1, 1),
        "run 4": (0, 1),
        "run 5": (1, 1),
        "run 300": (0, 0),
        "run 2": (1, 1),
        "run 7": (0, 1),
    }
