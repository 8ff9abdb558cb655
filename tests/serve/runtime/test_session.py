"""Which device really serves."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_bundles import FIXTURES

from serve.errors import BundleError, DeviceError, RequestError
from serve.runtime.cuda import has_cuda_gpu
from serve.runtime.recommender import Recommender
from serve.runtime.session import (
    CUDA,
    available_cpus,
    open_session,
    run,
    run_bound,
    session_device,
)

GRAPH = FIXTURES / "dot-bias" / "recommend.onnx"
FEEDS = {"user_index": np.array([1, 2]), "exclude_item_indices": np.zeros((2, 1), np.int64)}

without_gpu = pytest.mark.skipif(has_cuda_gpu(), reason="needs a machine without a GPU")


def test_cpu_is_cpu() -> None:
    session = open_session(GRAPH, "cpu")
    assert session_device(session) == "cpu"
    assert session.get_session_options().intra_op_num_threads == available_cpus()
    assert open_session(GRAPH, "cpu", threads=1).get_session_options().intra_op_num_threads == 1


def test_tables_may_be_left_as_they_are_mapped() -> None:
    entry = "session.disable_prepacking"
    shared, own = (open_session(GRAPH, "cpu", share_tables=share) for share in (True, False))
    assert shared.get_session_options().get_session_config_entry(entry) == "1"
    with pytest.raises(RuntimeError, match=entry):
        own.get_session_options().get_session_config_entry(entry)
    for left, right in zip(run(shared, FEEDS), run(own, FEEDS), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)


def test_both_ways_to_call_a_graph_agree() -> None:
    session = open_session(GRAPH, "cpu")
    names = ["top_scores", "top_item_indices"]  # not in the graph's order
    for plain, bound in (
        *zip(run(session, FEEDS), run_bound(session, FEEDS, "cpu"), strict=True),
        *zip(run(session, FEEDS)[::-1], run_bound(session, FEEDS, "cpu", names), strict=True),
        *zip(run(session, FEEDS, names), run_bound(session, FEEDS, "cpu", names), strict=True),
    ):
        np.testing.assert_array_equal(plain, bound)


def test_threads_follow_the_cpus_that_the_process_may_use() -> None:
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    program += "from serve.runtime.session import available_cpus; print(available_cpus())"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "1"


def test_a_device_that_does_not_exist() -> None:
    with pytest.raises(RequestError, match="auto, cpu, cuda, got 'tpu'"):
        open_session(GRAPH, "tpu")  # type: ignore[arg-type]


def test_a_graph_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="ONNX Runtime refuses"):
        open_session(tmp_path / "none.onnx", "cpu")


@without_gpu
def test_auto_is_silent_without_a_gpu(capfd: pytest.CaptureFixture[str]) -> None:
    assert session_device(open_session(GRAPH, "auto")) == "cpu"
    assert Recommender.load(GRAPH.parent).device == "cpu"
    assert capfd.readouterr() == ("", "")


class Driver:
    """An NVIDIA driver that claims to have one GPU."""

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int)).contents.value = 1
        return 0


@without_gpu
def test_cuda_that_fails_at_the_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    load = ctypes.CDLL
    monkeypatch.setattr(
        ctypes, "CDLL", lambda name, *more, **options: Driver() if "libcuda.so" in str(name) else load(name)
    )
    assert has_cuda_gpu()
    assert session_device(open_session(GRAPH, "auto")) == "cpu"
    with pytest.raises(DeviceError, match=r"CUDA.*--device cpu"):
        open_session(GRAPH, "cuda")
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    for name in ("auto", "cuda"):
        with pytest.raises(BundleError, match=r"bad\.onnx: ONNX Runtime refuses"):
            open_session(tmp_path / "bad.onnx", name)  # type: ignore[arg-type]


@without_gpu
def test_cuda_that_is_not_there_is_an_error_and_the_only_message(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeviceError, match="pip install 'onnxruntime-gpu"):
        open_session(GRAPH, "cuda")
    with pytest.raises(DeviceError):
        Recommender.load(GRAPH.parent, "cuda")
    assert capfd.readouterr() == ("", "")


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda_gpu(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("graph", ["recommend", "score", "similar_items", "fold_in"])
def test_cuda_agrees_with_the_cpu(graph: str) -> None:
    feeds = {
        "recommend": FEEDS,
        "score": {"user_index": np.array([1, 0]), "item_index": np.array([3, 50])},
        "similar_items": {"item_index": np.array([1, 50])},
        "fold_in": {
            "item_indices": np.array([[1, 2], [3, 0]]),
            "ratings": np.array([[5, 1], [2, 0]], np.float32),
        },
    }[graph]
    path = GRAPH.with_name(f"{graph}.onnx")
    cuda = open_session(path, "cuda")
    assert cuda.get_providers()[0] == CUDA
    expected = dict(
        zip([o.name for o in cuda.get_outputs()], run(open_session(path, "cpu"), feeds), strict=True)
    )
    for output, found in zip(cuda.get_outputs(), run(cuda, feeds), strict=True):
        if output.type == "tensor(float)":
            np.testing.assert_allclose(found, expected[output.name], atol=5e-5, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda_gpu(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_recommender_says_that_cuda_serves(name: str) -> None:
    assert Recommender.load(GRAPH.parent, name).device == "cuda"  # type: ignore[arg-type]
