"""The page of one bundle, and the server that shows it."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Collection

# Read by gradio as it is imported, and later by its client: nothing is told to anybody.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Where Gradio keeps files, and serves all that it finds: a folder of this process, which does not exist.
os.environ["GRADIO_TEMP_DIR"] = f"{tempfile.gettempdir()}/recsys-demo-{secrets.token_hex(8)}"

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from demos.gradio_app import cards
from demos.gradio_app.api import add_api
from demos.gradio_app.guard import guarded
from demos.gradio_app.page import html, style, theme
from demos.gradio_app.showcase import Showcase
from demos.gradio_app.tabs.factor_map import map_tab
from demos.gradio_app.tabs.model import model_tab
from demos.gradio_app.tabs.newcomer import newcomer_tab
from demos.gradio_app.tabs.similar import similar_tab
from demos.gradio_app.tabs.user import user_tab
from demos.report.page import check_figures
from serve.processes.listener import url
from serve.runtime.recommender import Recommender

TABS = {
    "Pick a user": user_tab,
    "New here": newcomer_tab,
    "Similar items": similar_tab,
    "Map": map_tab,
    "Model": model_tab,
}


def build_app(recommender: Recommender) -> gr.Blocks:
    """The page, whole: every graph it needs has answered once.

    Raises:
        BundleError: the bundle's files are damaged, or its figures can't be.
    """
    manifest = recommender.manifest
    check_figures(manifest)
    showcase = Showcase(recommender)
    showcase.warm_up()
    with gr.Blocks(
        title=f"{manifest.data.name}: {manifest.model.kind}", analytics_enabled=False, fill_width=True
    ) as page:
        html(_banner(recommender), elem_id="banner")
        with gr.Tabs(overflow_behavior="wrap"):
            for name, build in TABS.items():
                with gr.Tab(name, id=name):
                    build(showcase)
        add_api(showcase)
    app: gr.Blocks = page
    return app


class Served:
    """A page that is served from a thread of its own, until `close`.

    By uvicorn itself: gradio's own start gives up after five seconds, looks for its port anew, and asks
    itself whether it can be reached.

    Args:
        page: What `build_app` gave.
        listener: Where; see `serve.processes.listener`.
        allowed_hosts: The names that it answers to, beside addresses and `localhost`.

    Raises:
        RuntimeError: the server ended while it started; it has told why.
    """

    def __init__(self, page: gr.Blocks, listener: socket.socket, allowed_hosts: Collection[str] = ()) -> None:
        host, port = listener.getsockname()[:2]
        self.url = url(listener)
        config = uvicorn.Config(
            guarded(mounted(page, host, port), allowed_hosts),
            log_config=None,  # its own needs a standard output
            log_level="warning",
            access_log=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server, self._listener = uvicorn.Server(config), listener
        self._thread = threading.Thread(target=self._server.run, args=[[listener]], daemon=True)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
            if not self._thread.is_alive():
                raise RuntimeError("the server did not start; the lines above may say why.")

    def close(self) -> None:
        """Answer what is being answered, and end."""
        # Every open page holds a request, which is cut off here; uvicorn would log each.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server.should_exit = True
        self._thread.join(5)
        self._listener.close()


def mounted(page: gr.Blocks, host: str, port: int) -> FastAPI:
    """Gradio's own app of the page, without our guard before it."""
    app: FastAPI = gr.mount_gradio_app(
        # Without origins it allows none, and Gradio adds no headers of its own, which allow most.
        FastAPI(openapi_url=None, middleware=[Middleware(CORSMiddleware)]),
        page,
        path="/",
        server_name=host,
        server_port=port,
        show_error=False,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        footer_links=["api"],
        max_file_size=0,
        theme=theme(),
        head=style(),
    )
    # `launch` sets this and mounting does not; without it, Gradio reads any file that a request names.
    page.has_launched = True
    # Mounting makes it, for a feature that is off.
    shutil.rmtree(os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
    return app


def _banner(recommender: Recommender) -> str:
    manifest = recommender.manifest
    model = manifest.model
    facts = (
        f"{model.kind} on {manifest.data.name} · {model.n_users:,} users · {model.n_items:,} items · "
        f"{manifest.data.n_ratings:,} ratings · answered by ONNX Runtime on {recommender.device.upper()}"
    )
    return cards.banner(facts)
