"""`recommend_by_id.onnx`: user ids in, item ids (and titles) out; the graph holds the tables of ids.

Optional (`recsys export --raw-ids`): the `LabelEncoder` of the domain ai.onnx.ml, which looks ids up, is in
ONNX Runtime and not in OpenVINO and tract.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnxscript import GraphBuilder

from export.errors import GraphError
from export.graphs import recommend
from export.graphs.build import begin, finish
from export.graphs.spec import Comparison, GraphSpec, Named, Runner, TensorSpec
from export.model.arrays import Arrays, Int64
from export.model.inputs import ExportInputs, IdArray, IdTables, Sample, is_string
from serve.bundle.conformance import Case

INPUTS = (TensorSpec("user_id", "id", ("B",)), TensorSpec("exclude_item_ids", "id", ("B", "E")))
OUTPUTS = (
    TensorSpec("top_item_ids", "id", ("B", "K")),
    TensorSpec("top_scores", "float32", ("B", "K")),
    TensorSpec("known", "bool", ("B",)),
    TensorSpec("top_titles", "string", ("B", "K"), optional=True),
    TensorSpec("top_ratings", "float32", ("B", "K"), optional=True),
)
ML_DOMAIN = "ai.onnx.ml"
# The first version whose tables may be tensors: one field of raw bytes, not one for each id.
ML_OPSET = 4
# A string is a protobuf field of its own; a bundle's reader refuses files of more than a million.
MAX_STRINGS = 400_000


def recommend_by_id_graph(
    lists: Arrays, ids: IdTables, top_k: int, ratings: Arrays | None = None
) -> ir.Model:
    """`recommend_graph` between ids.

    A user id that is not in the table is the average user (`known` is false), and an excluded id that is not
    in the table excludes nothing. Where no item is left, `top_item_ids` has -1 or "".

    Raises:
        GraphError: an item has the id that stands for "no item", or there are too many strings.
    """
    _check_ids(ids)
    user_type, item_type = ("string" if is_string(one) else "int64" for one in (ids.user_ids, ids.item_ids))
    dtypes = {"user_id": user_type, "exclude_item_ids": item_type, "top_item_ids": item_type}
    graph, (user_id, exclude_ids) = begin("recommend_by_id", INPUTS, dtypes)
    graph.graph.opset_imports[ML_DOMAIN] = ML_OPSET
    user_index = _index(graph, user_id, ids.user_ids, ids.user_rows)
    exclude = _index(graph, exclude_ids, ids.item_ids, None)
    top = recommend.best_items(graph, lists, user_index, exclude, top_k, ratings)
    every_item = np.arange(len(ids.item_ids) + 1)
    outputs = {
        "top_item_ids": _gather(graph, "item_ids", ids.items(every_item), top["top_item_indices"]),
        "top_scores": top["top_scores"],
        "known": graph.op.Greater(user_index, 0),
    }
    titles = ids.titles_of(every_item)
    if "top_ratings" in top:
        outputs["top_ratings"] = top["top_ratings"]
    if titles is not None:
        outputs["top_titles"] = _gather(graph, "item_titles", titles, top["top_item_indices"])
    return finish(graph, OUTPUTS, outputs, {"K": top_k}, dtypes)


def _check_ids(ids: IdTables) -> None:
    if ids.no_item in set(ids.item_ids.tolist()):
        raise GraphError(
            f'an item has the id {ids.no_item!r}, which stands for "no item" in recommend_by_id.onnx. '
            f"Rename it, or export without --raw-ids."
        )
    n_strings = sum(len(table) for table in (ids.user_ids, ids.item_ids) if is_string(table))
    n_strings += len(ids.item_ids) * (is_string(ids.item_ids) + (ids.titles is not None))
    if n_strings > MAX_STRINGS:
        raise GraphError(
            f"recommend_by_id.onnx would hold {n_strings:,} strings, more than {MAX_STRINGS:,}: export "
            f"without --raw-ids, and look ids up beside the graph"
        )


def _index(graph: GraphBuilder, ids: ir.Value, known: IdArray, rows: Int64 | None) -> ir.Value:
    """Rows of ids, int64 of the same shape; 0 where an id is not known. `rows` of `known`; None: 1 to n."""
    if rows is None:
        rows = np.arange(1, len(known) + 1)
    index: ir.Value = graph.opset(ML_DOMAIN, ML_OPSET).LabelEncoder(
        ids,
        keys_tensor=_tensor("keys", known),
        values_tensor=ir.tensor(rows, name="values"),
        default_tensor=ir.tensor(np.zeros(1, np.int64), name="default"),
    )
    return index


def _gather(graph: GraphBuilder, name: str, values: IdArray, indices: ir.Value) -> ir.Value:
    found: ir.Value = graph.op.Gather(graph.initializer(_tensor(name, values), name, qualify=False), indices)
    return found


def _tensor(name: str, values: IdArray) -> ir.TensorProtocol:
    if is_string(values):
        return ir.StringTensor([value.encode() for value in values], shape=ir.Shape(values.shape), name=name)
    return ir.tensor(values.astype(np.int64), name=name)


def _ids(inputs: ExportInputs) -> IdTables:
    assert inputs.ids is not None
    return inputs.ids


def _cases(inputs: ExportInputs) -> list[Case]:
    """The cases of `recommend` between ids; the average user becomes an id that is not in the table."""
    ids, cases = _ids(inputs), []
    for case in recommend.cases(inputs):
        feeds, right = case.arrays()
        users, best = feeds["user_index"], right["top_item_indices"]
        outputs: Named = {
            "top_item_ids": ids.items(best),
            "top_scores": right["top_scores"],
            "known": users > 0,
        }
        if "top_ratings" in right:
            outputs["top_ratings"] = right["top_ratings"]
        titles = ids.titles_of(best)
        if titles is not None:
            outputs["top_titles"] = titles
        exclude = ids.items(feeds["exclude_item_indices"])
        cases.append(Case.of({"user_id": ids.users(users), "exclude_item_ids": exclude}, outputs))
    return cases


def _check(run: Runner, inputs: ExportInputs, sample: Sample) -> Comparison:
    """Compare the lists with torch, the titles with the items', and `known`."""
    ids, tolerance = _ids(inputs), recommend.tolerance(inputs)["top_scores"]
    feeds = {"user_id": ids.users(sample.users), "exclude_item_ids": ids.items(sample.exclude)}
    found = run("recommend_by_id", feeds)
    row_of = {item_id: row for row, item_id in enumerate(ids.item_ids.tolist(), 1)}
    indices = np.vectorize(lambda item_id: row_of.get(item_id, 0), otypes=[np.int64])(found["top_item_ids"])
    right = np.array_equal(found["known"], sample.users > 0)
    titles = ids.titles_of(indices)
    if titles is not None:
        right = right and np.array_equal(found["top_titles"], titles)
    if not right:
        return Comparison(len(sample.users), np.array([np.inf]), tolerance, 0.0)
    return recommend.check_rated(found | {"top_item_indices": indices}, inputs, sample.users, sample.exclude)


SPEC = GraphSpec(
    name="recommend_by_id",
    inputs=INPUTS,
    outputs=OUTPUTS,
    applies=lambda inputs: inputs.ids is not None,
    build=lambda inputs: recommend_by_id_graph(
        inputs.lists, _ids(inputs), inputs.top_k, recommend.ratings_of(inputs)
    ),
    cases=_cases,
    check=_check,
    tolerance=recommend.tolerance,
    cpu_only=True,  # LabelEncoder and strings
)
