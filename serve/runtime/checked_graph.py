"""Opening a graph of a bundle: whoever asks it, it has first answered as it must."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from serve.bundle.bundle import Bundle
from serve.bundle.conformance import check_conformance
from serve.bundle.shards import SHARD, role
from serve.errors import BundleError, DeviceError
from serve.runtime.batching import rows_per_run
from serve.runtime.cuda import DeviceTables
from serve.runtime.cuda_graphs import CapturedGraph
from serve.runtime.session import (
    TF32_TOLERANCES,
    Device,
    OnCuda,
    check_signature,
    open_session,
    run_named,
    session_device,
)

if TYPE_CHECKING:
    from serve.runtime.recommender import Recommender
    from serve.runtime.session import GraphSession


# Every input has a row for each user or item, padded with 0; other graphs have inputs that rows share.
CAPTURED = {"recommend", SHARD, "fold_in", "similar_items"}
# They solve equations, which multiplies the errors of TF32.
SOLVING = {"fold_in", "fold_in_filtered", "explain"}

logger = logging.getLogger(__name__)


def open_checked(
    bundle: Bundle,
    name: str,
    device: Device,
    *,
    threads: int | None,
    share_tables: bool,
    tf32: bool = False,
    tables: DeviceTables | None = None,
) -> tuple[GraphSession, int]:
    """A session for a graph that has the manifest's inputs and outputs and passes its conformance cases.

    On CUDA, runs of a graph that can be captured are CUDA graphs; where a captured one can't be opened, or
    does not answer as its cases say, a warning is logged, and it is opened without. Also returns the number
    of cases.
    `tables` are those that other graphs have on the GPU, too. Other arguments are those of `open_session`.

    Raises:
        BundleError: the graph is not what the manifest says, or does not answer as its cases say.
        DeviceError: "cuda" does not work.
    """
    declared = bundle.manifest.graphs[name]
    path = bundle.path / declared.file
    # `MatMulNBits` takes a hundred times as long on a table that ONNX Runtime may not rearrange. This table
    # has 4 bits a number; the exact rows are mapped either way.
    share_tables = share_tables and name != "recommend_fast"
    tf32 = tf32 and name not in SOLVING
    first, stop = declared.items
    on_cuda = OnCuda(tf32=tf32, tables=partial((tables or DeviceTables(bundle)).of, name))

    def opened(*, captured: bool) -> tuple[GraphSession, int]:
        session = open_session(
            path,
            "cuda" if captured else device,
            threads=threads,
            share_tables=share_tables,
            on_cuda=on_cuda._replace(captured=captured),
        )
        check_signature(session, declared, path)
        graph = CapturedGraph(session, rows_per_run(stop - first)) if captured else session
        run_graph = partial(run_named, graph, rows_per_run=rows_per_run(bundle.manifest.model.n_items))
        is_exact = not tf32 or session_device(session) == "cpu"
        tolerances = 1 if is_exact else TF32_TOLERANCES
        return graph, check_conformance(bundle, name, run_graph, tolerances=tolerances)

    refused: Exception | None = None
    if device != "cpu" and role(name) in CAPTURED:
        try:
            return opened(captured=True)
        except (BundleError, DeviceError) as error:
            refused = error
    graph, n_cases = opened(captured=False)  # raises too if the reason is not the capture
    if refused and session_device(graph) == "cuda":
        logger.warning("%s is answered without CUDA graphs: %s", path, refused)
    return graph, n_cases


def check_all(recommender: Recommender) -> None:
    """As `Recommender.check`, with graphs that it does not call, and every row of what users have rated.

    Raises BundleError: a graph does not answer as its cases say, or a file is damaged.
    """
    recommender.check()
    recommender.check(*recommender.manifest.graphs)
    if not recommender.manifest.without_seen:
        recommender.seen.check()
