"""CUDA graphs: runs of padded sizes answer as plain ones. The CPU captures nothing; the rest is the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fixture_bundles import FIXTURES, RAW_ID_FIXTURES

from serve.bundle.bundle import open_bundle
from serve.bundle.conformance import difference
from serve.errors import BundleError, DeviceError
from serve.runtime.checked_graph import CAPTURED, open_checked
from serve.runtime.cuda import has_cuda_gpu
from serve.runtime.cuda_graphs import LARGEST_INPUT, CapturedGraph, padded_rows, padded_width
from serve.runtime.recommender import Recommender
from serve.runtime.session import OnCuda, open_session, run_named

GRAPHS = sorted(path for path in FIXTURES.glob("*/*.onnx") if path.stem in CAPTURED)
LARGEST = 8

with_gpu = pytest.mark.skipif(not has_cuda_gpu(), reason="no NVIDIA GPU")


def feeds_of(path: Path, n_rows: int, width: int) -> dict[str, np.ndarray]:
    """Inputs of a graph: items and users of the fixtures, and ratings; some of a row are padding."""
    rng = np.random.default_rng(n_rows * 100 + width)
    n_users, n_items = open_bundle(path.parent).manifest.model.n_users, 50
    items = rng.permuted(np.tile(np.arange(n_items + 1), (n_rows, 1)), axis=1)[:, :width]
    feeds = {
        "user_index": rng.integers(0, n_users + 1, n_rows),
        "exclude_item_indices": items,
        "item_index": rng.integers(0, n_items + 1, n_rows),
        "item_indices": items,
        "ratings": np.where(items > 0, rng.integers(1, 6, items.shape), 0).astype(np.float32),
    }
    names = [one.name for one in open_session(path, "cpu").get_inputs()]
    return {name: feeds[name] for name in names}


def check(path: Path, graph: CapturedGraph, n_rows: int, width: int) -> None:
    """Compare a run with a plain one on the CPU, by the rule for conformance cases."""
    feeds = feeds_of(path, n_rows, width)
    expected = run_named(open_session(path, "cpu"), feeds)
    tolerance = open_bundle(path.parent).manifest.graphs[path.stem].tolerance
    assert difference(run_named(graph, feeds), expected, tolerance) is None
    some = list(expected)[-1:]
    assert [array.shape for array in graph.run(feeds, some)] == [expected[some[0]].shape]


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_padded_runs_answer_as_plain_ones(path: Path) -> None:
    graph = CapturedGraph(open_session(path, "cpu"), LARGEST, "cpu")
    for n_rows, width in ((3, 5), (1, 16), (4, 1), (8, 17), (3, 5), (2, 40)):
        check(path, graph, n_rows, width)
    assert graph.n_sizes == 4
    check(path, graph, LARGEST + 1, 3)  # not captured
    assert graph.n_sizes == 4


def test_sizes() -> None:
    assert [padded_rows(n, 256) for n in (0, 1, 2, 3, 5, 129, 256)] == [1, 1, 2, 4, 8, 256, 256]
    assert [padded_rows(n, 67) for n in (33, 65, 67)] == [64, 67, 67]
    assert [padded_width(n) for n in (0, 16, 17, 65, 4096, 4097)] == [16, 16, 64, 256, 4096, 16384]
    assert padded_width(9742) * 64 <= LARGEST_INPUT


def test_threads_share_one() -> None:
    served = Recommender.load(FIXTURES / "dot-bias", "cpu")
    plain = served.graph_ranker("recommend")
    session = open_session(FIXTURES / "dot-bias" / "recommend.onnx", "cpu")
    captured = plain._replace(session=CapturedGraph(session, 256, "cpu"))
    users = [np.arange(n % 30) + 1 for n in range(1, 60)]
    none = [np.zeros((len(one), 1), np.int64) for one in users]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(captured.rank, users, none))
    for one, asked, without in zip(found, users, none, strict=True):
        np.testing.assert_allclose(one.scores, plain.rank(asked, without).scores, atol=1e-5)


def test_answers_are_the_callers_own() -> None:
    """The next run of the same size does not overwrite them."""
    graph = CapturedGraph(open_session(FIXTURES / "dot-bias" / "recommend.onnx", "cpu"), 256, "cpu")
    none = np.zeros((3, 1), np.int64)
    first = graph.run({"user_index": np.array([1, 2, 3]), "exclude_item_indices": none})
    kept = [output.copy() for output in first]
    graph.run({"user_index": np.array([4, 5, 6]), "exclude_item_indices": none})
    for output, before in zip(first, kept, strict=True):
        np.testing.assert_array_equal(output, before)


def test_other_graphs_are_refused() -> None:
    by_id = RAW_ID_FIXTURES / "dot-bias" / "recommend_by_id.onnx"
    with pytest.raises(BundleError, match="recommend_by_id can't be captured"):
        CapturedGraph(open_session(by_id, "cpu"), LARGEST, "cpu")


@pytest.mark.skipif(has_cuda_gpu(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("captured", [True, False])
def test_without_a_gpu_the_error_is_the_usual_one(captured: bool) -> None:
    with pytest.raises(DeviceError, match="CUDA fails"):
        open_session(GRAPHS[0], "cuda", on_cuda=OnCuda(tf32=True, captured=captured))


@pytest.mark.gpu
@with_gpu
@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_replayed_runs_answer_as_the_cpu(path: Path) -> None:
    graph, _ = open_checked(open_bundle(path.parent), path.stem, "cuda", threads=None, share_tables=False)
    assert isinstance(graph, CapturedGraph)  # its cases were answered by CUDA graphs
    for n_rows, width in ((3, 5), (1, 16), (3, 5), (3, 5), (200, 17), (200, 17)):
        feeds = feeds_of(path, n_rows, width)
        expected = run_named(open_session(path, "cpu"), feeds)
        tolerance = open_bundle(path.parent).manifest.graphs[path.stem].tolerance
        assert difference(run_named(graph, feeds), expected, tolerance) is None


@pytest.mark.gpu
@with_gpu
def test_tf32_answers_within_its_tolerance(bundle_path: Path) -> None:
    assert Recommender.load(bundle_path, "cuda", tf32=True).check() > 0
