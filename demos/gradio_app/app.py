"""The page of one bundle, and the server that shows it."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Gradio and its client send usage reports unless these are set before they are imported.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Gradio serves every file in its temporary folder: name one for this process alone, which is not made.
os.environ["GRADIO_TEMP_DIR"] = f"{tempfile.gettempdir()}/recsys-demo-{secrets.token_hex(8)}"

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from demos.gradio_app.api import add_api
from demos.gradio_app.cards import card
from demos.gradio_app.compared import ComparedLists
from demos.gradio_app.links import follow_links
from demos.gradio_app.page import head, html, theme
from demos.gradio_app.showcase import Showcase
from demos.gradio_app.tabs.compare import compare_tab
from demos.gradio_app.tabs.factor_map import map_tab
from demos.gradio_app.tabs.model import model_tab
from demos.gradio_app.tabs.newcomer import kept_ratings, newcomer_tab
from demos.gradio_app.tabs.similar import similar_tab
from demos.gradio_app.tabs.user import user_tab
from demos.report.comparison import Pair
from demos.report.page import check_figures
from serve import Recommender
from serve.processes.listener import url

TABS = {
    "user": "Pick a user",
    "new": "New here",
    "similar": "Similar items",
    "map": "Map",
    "model": "Model",
    "compare": "Compare",
}
"""The tabs by their names in the page's address; "compare" is there where two bundles are shown."""


def build_app(recommender: Recommender, other: Recommender | None = None) -> gr.Blocks:
    """The whole page. Every graph that it needs has answered once.

    With `other`, one tab compares the two; all others show `recommender`.

    Raises:
        BundleError: a bundle's files are damaged, or figures of a manifest are not finite.
        RequestError: the two can't be compared; see `Pair`.
    """
    pair = None if other is None else Pair(recommender, other)
    manifest, model = recommender.manifest, recommender.manifest.model
    check_figures(manifest)
    showcase = Showcase(recommender)
    showcase.warm_up()
    compared = None if pair is None else ComparedLists(pair, showcase)
    facts = (
        f"{model.title} on {manifest.data.name} · {model.n_users:,} users · {model.n_items:,} items · "
        f"{manifest.data.n_ratings:,} ratings · answered by ONNX Runtime on {recommender.device.upper()}"
    )
    page: gr.Blocks
    title = f"{manifest.data.name}: {model.title}"
    with gr.Blocks(title=title, analytics_enabled=False, fill_width=True) as page:
        add_api(
            showcase, compared
        )  # first: Gradio adds "_1" to a name that an event handler of a tab has taken
        html(card("banner", facts), "banner")
        kept = kept_ratings(showcase)
        with gr.Tabs(overflow_behavior="wrap") as tabs:
            with gr.Tab(TABS["user"], id="user"):
                user = user_tab(showcase)
            with gr.Tab(TABS["new"], id="new"):
                newcomer = newcomer_tab(showcase, page, kept)
            with gr.Tab(TABS["similar"], id="similar"):
                similar = similar_tab(showcase)
            with gr.Tab(TABS["map"], id="map") as tab:
                map_tab(showcase, tab)
            with gr.Tab(TABS["model"], id="model") as tab:
                model_tab(showcase, tab)
            compared_user = None
            if compared is not None:
                with gr.Tab(TABS["compare"], id="compare") as tab:
                    compared_user = compare_tab(compared, tab)
        names = [name for name in TABS if name != "compare" or compared is not None]
        follow_links(showcase, page, tabs, names, user, newcomer, similar, compared_user)
    return page


@contextmanager
def served(app: ASGIApp, listener: socket.socket) -> Iterator[str]:
    """Serve an ASGI app on a listening socket from a thread; gives its URL.

    Not by Gradio's `launch`, which gives up after five seconds, looks for a port of its own, and requests its
    own page.

    Raises:
        RuntimeError: the server ended while it started; its log says why.
    """
    config = uvicorn.Config(
        app,
        log_config=None,  # uvicorn's own needs a standard output
        log_level="warning",
        access_log=False,
        ws="none",
        http="h11",  # httptools, which may be installed, stores headers without a limit
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=[[listener]], daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        if not thread.is_alive():
            raise RuntimeError("the server did not start; the lines above may say why.")
    yield url(listener)
    # Every open page holds a request, which is cut off here; uvicorn would log each.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    server.should_exit = True
    thread.join(5)
    listener.close()


def mounted(page: gr.Blocks) -> FastAPI:
    """Gradio's own app of the page, to be served behind `guarded`."""
    app: FastAPI = gr.mount_gradio_app(
        # No origin is allowed. Without this middleware, Gradio adds its own, which allows most.
        FastAPI(openapi_url=None, middleware=[Middleware(CORSMiddleware)]),
        page,
        path="/",
        show_error=False,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        footer_links=["api"],
        max_file_size=0,
        theme=theme(),
        head=head(),
    )
    # `launch` sets this and mounting does not; without it, Gradio reads any file that a request names.
    page.has_launched = True
    # Mounting makes the folder, for a feature that is off.
    shutil.rmtree(os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
    return app
