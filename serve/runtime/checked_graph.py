"""Opening a graph of a bundle: whoever asks it, it has first answered as it must."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from serve.bundle.bundle import Bundle
from serve.bundle.conformance import check_conformance
from serve.runtime.batching import rows_per_run
from serve.runtime.session import Device, check_signature, open_session, run_named

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from serve.runtime.recommender import Recommender


def open_checked(
    bundle: Bundle, name: str, device: Device, *, threads: int | None, share_tables: bool
) -> tuple[InferenceSession, int]:
    """A session for a graph that has the manifest's inputs and outputs and passes its conformance cases.

    Other arguments are those of `open_session`. Also returns the number of cases.

    Raises:
        BundleError: the graph is not what the manifest says, or does not answer as its cases say.
        DeviceError: "cuda" does not work.
    """
    declared = bundle.manifest.graphs[name]
    path = bundle.path / declared.file
    # `MatMulNBits` takes a hundred times as long on a table that ONNX Runtime may not rearrange. This table
    # has 4 bits a number; the exact rows are mapped either way.
    share_tables = share_tables and name != "recommend_fast"
    session = open_session(path, device, threads=threads, share_tables=share_tables)
    check_signature(session, declared, path)
    run_graph = partial(run_named, session, rows_per_run=rows_per_run(bundle.manifest.model.n_items))
    return session, check_conformance(bundle, name, run_graph)


def check_all(recommender: Recommender) -> None:
    """As `Recommender.check`, with graphs that it does not call, and every row of what users have rated.

    Raises BundleError: a graph does not answer as its cases say, or a file is damaged.
    """
    recommender.check()
    recommender.check(*recommender.manifest.graphs)
    if not recommender.manifest.without_seen:
        recommender.seen.check()
