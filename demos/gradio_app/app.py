"""The page of one bundle, and the server that shows it."""

from __future__ import annotations

import os
import socket
from typing import Any

# Read by gradio as it is imported, and later by its client: nothing is told to anybody.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demos.gradio_app.api import add_api
from demos.gradio_app.page import html, style, theme
from demos.gradio_app.showcase import Showcase
from demos.gradio_app.tabs.factor_map import map_tab
from demos.gradio_app.tabs.model import model_tab
from demos.gradio_app.tabs.newcomer import newcomer_tab
from demos.gradio_app.tabs.similar import similar_tab
from demos.gradio_app.tabs.user import user_tab
from demos.report.markup import element, join
from demos.report.page import check_figures
from serve.recommender import Recommender

# Browsers that keep to it ask this server alone. Gradio's own page needs inline scripts and eval.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; form-action 'self'; "
    "base-uri 'self'"
)
TABS = {
    "Pick a user": user_tab,
    "New here": newcomer_tab,
    "Similar items": similar_tab,
    "Map": map_tab,
    "Model": model_tab,
}


class OwnHostOnly:
    """Answers carry a policy that keeps the browser from asking any other host."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        await self.app(scope, receive, with_policy)


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


def free_port(host: str, port: int = 0) -> int:
    """The port if nobody listens on it now; for 0 one that nobody listens on.

    Raises:
        OSError: the host is no address of this machine, or the port is not to be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        return int(probe.getsockname()[1])


def start(app: gr.Blocks, host: str, port: int) -> str:
    """Serve the page from a thread of its own; returns its address.

    Raises:
        OSError: nobody can listen there.
    """
    _, url, _ = app.launch(
        # Gradio writes it into addresses as it is, and takes the brackets off to listen.
        server_name=f"[{host}]" if ":" in host else host,
        server_port=port,
        share=False,
        quiet=True,
        show_error=False,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        inbrowser=False,
        prevent_thread_lock=True,
        footer_links=["api"],
        max_file_size=0,
        theme=theme(),
        head=style(),
        app_kwargs={"middleware": [Middleware(OwnHostOnly)]},
    )
    return str(url)


def _banner(recommender: Recommender) -> Any:
    manifest = recommender.manifest
    model = manifest.model
    facts = (
        f"{model.kind} on {manifest.data.name} · {model.n_users:,} users · {model.n_items:,} items · "
        f"{manifest.data.n_ratings:,} ratings · answered by ONNX Runtime on {recommender.device.upper()}"
    )
    return element(
        "div", join(element("h1", "Recommendations"), element("p", facts, class_="quiet")), class_="banner"
    )
