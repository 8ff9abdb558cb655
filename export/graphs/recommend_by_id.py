"""`recommend_by_id.onnx`: user ids in, item ids (and titles) out; the id tables lie in the graph, too.

Optional (`recsys export --raw-ids`), because it is not for every runtime: the look-up from ids is the
`LabelEncoder` of the domain ai.onnx.ml, which ONNX Runtime has and OpenVINO and tract don't.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnxscript import GraphBuilder

from export.errors import GraphError
from export.graphs.build import begin, finish, table
from export.graphs.recommend import best_items
from export.model.arrays import Arrays

ML_DOMAIN = "ai.onnx.ml"
# The first version whose tables may be tensors: one field of raw bytes, not one for each id.
ML_OPSET = 4
# A string is a protobuf field of its own; a bundle's reader refuses files of more than a million.
MAX_STRINGS = 400_000

IdArray = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class IdTables:
    """What stands for each row. Ids are int64, or str in an object array."""

    user_ids: IdArray
    """[n_users]: the first stands for index 1"""
    item_ids: IdArray
    """[n_items]"""
    titles: Sequence[str] | None
    """[n_items], "" where an item has none; None where the data has no titles"""

    @property
    def no_item(self) -> int | str:
        """What stands where no item is left, and pads `exclude_item_ids`: -1, or ""."""
        return "" if _is_string(self.item_ids) else -1

    def users(self, user_index: npt.NDArray[np.int64]) -> IdArray:
        """Ids at indices [B]; at 0 an id that is not in the table."""
        unknown: int | str = "unknown" if _is_string(self.user_ids) else -1
        while unknown in set(self.user_ids.tolist()):
            unknown = f"{unknown}?" if isinstance(unknown, str) else unknown - 1
        return _with_row_0(self.user_ids, unknown)[user_index]

    def items(self, item_index: npt.NDArray[np.int64]) -> IdArray:
        """Ids at indices, of any shape; `no_item` at 0."""
        return _with_row_0(self.item_ids, self.no_item)[item_index]

    def titles_of(self, item_index: npt.NDArray[np.int64]) -> IdArray | None:
        """Titles at indices, of any shape; "" at 0. None where the data has no titles."""
        return None if self.titles is None else np.array(["", *self.titles], object)[item_index]


def recommend_by_id_graph(arrays: Arrays, ids: IdTables, top_k: int) -> ir.Model:
    """The graph "recommend" between ids.

    Inputs: `user_id` int64 or string [B], one that is not in the table is the average user;
    `exclude_item_ids` int64 or string [B, E], where one that is not in the table excludes nothing.
    Outputs: `top_item_ids` [B, K], -1 or "" where no item is left; `top_scores` float32 [B, K] (ratings);
    `known` bool [B], whether the user is in the table; where there are titles `top_titles` string [B, K].

    Raises:
        GraphError: an item has the id that stands for "no item", or there are too many strings.
    """
    _check(ids)
    graph = begin("recommend_by_id")
    graph.graph.opset_imports[ML_DOMAIN] = ML_OPSET
    op = graph.op
    user_id = graph.input("user_id", _dtype(ids.user_ids), ["B"])
    exclude_ids = graph.input("exclude_item_ids", _dtype(ids.item_ids), ["B", "E"])
    user_index = _index(graph, user_id, ids.user_ids)
    exclude = _index(graph, exclude_ids, ids.item_ids)
    indices, scores = best_items(graph, arrays, user_index, exclude, top_k)
    item_type = _dtype(ids.item_ids)
    every_item = np.arange(len(ids.item_ids) + 1)
    outputs: list[tuple[str, ir.Value, ir.DataType, list[int | str]]] = [
        ("top_item_ids", _gather(graph, "item_ids", ids.items(every_item), indices), item_type, ["B", top_k]),
        ("top_scores", scores, ir.DataType.FLOAT, ["B", top_k]),
        ("known", op.Greater(user_index, 0), ir.DataType.BOOL, ["B"]),
    ]
    titles = ids.titles_of(every_item)
    if titles is not None:
        top_titles = _gather(graph, "item_titles", titles, indices)
        outputs.append(("top_titles", top_titles, ir.DataType.STRING, ["B", top_k]))
    return finish(graph, outputs)


def _check(ids: IdTables) -> None:
    if ids.no_item in set(ids.item_ids.tolist()):
        raise GraphError(
            f'an item has the id {ids.no_item!r}, which stands for "no item" in recommend_by_id.onnx. '
            f"Rename it, or export without --raw-ids."
        )
    n_strings = sum(len(table) for table in (ids.user_ids, ids.item_ids) if _is_string(table))
    n_strings += len(ids.item_ids) * (_is_string(ids.item_ids) + (ids.titles is not None))
    if n_strings > MAX_STRINGS:
        raise GraphError(
            f"recommend_by_id.onnx would hold {n_strings:,} strings, more than {MAX_STRINGS:,}: export "
            f"without --raw-ids, and look ids up beside the graph"
        )


def _index(graph: GraphBuilder, ids: ir.Value, known: IdArray) -> ir.Value:
    """Rows of ids, int64 of the same shape; 0 where an id is not known."""
    index: ir.Value = graph.opset(ML_DOMAIN, ML_OPSET).LabelEncoder(
        ids,
        keys_tensor=_tensor("keys", known),
        values_tensor=ir.tensor(np.arange(1, len(known) + 1), name="values"),
        default_tensor=ir.tensor(np.zeros(1, np.int64), name="default"),
    )
    return index


def _gather(graph: GraphBuilder, name: str, values: IdArray, indices: ir.Value) -> ir.Value:
    if _is_string(values):
        rows = graph.initializer(_tensor(name, values), name, qualify=False)
    else:
        rows = table(graph, name, values)
    found: ir.Value = graph.op.Gather(rows, indices)
    return found


def _tensor(name: str, values: IdArray) -> ir.TensorProtocol:
    if _is_string(values):
        return ir.StringTensor([value.encode() for value in values], shape=ir.Shape(values.shape), name=name)
    return ir.tensor(values.astype(np.int64), name=name)


def _dtype(ids: IdArray) -> ir.DataType:
    return ir.DataType.STRING if _is_string(ids) else ir.DataType.INT64


def _is_string(ids: IdArray) -> bool:
    return ids.dtype.kind not in "iu"


def _with_row_0(ids: IdArray, row_0: int | str) -> IdArray:
    return np.concatenate([np.array([row_0], object if _is_string(ids) else np.int64), ids])
