"""Tables outside of a graph: in memory, and in `tables.bin`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from export.graphs.recommend import recommend_graph
from export.model.dot import DotArrays
from export.verify.runners import onnxruntime_runner, open_in_memory, reference_runner
from export.verify.verify import TABLE_TOLERANCE, compare_tables
from export.write import tables_file
from export.write.tables_file import initializers

FEEDS = {"user_index": np.array([0, 3]), "exclude_item_indices": np.array([[1], [2]])}


def large() -> DotArrays:
    """Its item table is of the size that is never copied."""
    rng = np.random.default_rng(0)
    users, items = (rng.normal(size=shape).astype(np.float32) for shape in ((5, 64), (5000, 64)))
    return DotArrays(users, items, None, None, None)


def test_every_runner_reads_tables_where_they_are(tmp_path: Path) -> None:
    model = recommend_graph(large(), 5)
    wanted = {"recommend": initializers(model)}
    tables_file.move_out([model], tmp_path)
    ir.save(model, tmp_path / "recommend.onnx")
    in_memory = open_in_memory(recommend_graph(large(), 5)).run(None, FEEDS)
    for runner in (onnxruntime_runner(tmp_path, "cpu"), reference_runner(tmp_path)):
        found = runner("recommend", FEEDS)
        np.testing.assert_array_equal(found["top_item_indices"], in_memory[0])
        np.testing.assert_allclose(found["top_scores"], in_memory[1], rtol=1e-5)
    same = compare_tables(tmp_path, wanted)
    assert same.errors.max() == 0
    assert same.n == sum(array.size for array in wanted["recommend"].values())
    changed = {name: array.copy() for name, array in wanted["recommend"].items()}
    changed["item_factors"][4999, 63] += 0.1
    assert compare_tables(tmp_path, {"recommend": changed}).errors.max() > TABLE_TOLERANCE
