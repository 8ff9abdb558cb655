"""`recsys demo`: a bundle's page, to look at and to try."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from serve.commands.listen import listen
from serve.commands.options import allow_host_option, bundle_argument, device_option
from serve.processes.signals import Signals
from serve.terminal import say


@click.command()
@bundle_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7860,
    show_default=True,
    help="The port to listen on; 0 takes a free one.",
)
@allow_host_option
@device_option
def demo(bundle: Path, host: str, port: int, allow_hosts: tuple[str, ...], device: str) -> None:
    """Show BUNDLE as a page: pick a user, rate as somebody new, similar items, a map, the model's card.

    \b
      recsys demo artifacts/default
    """
    from serve.runtime.recommender import Recommender

    recommender = Recommender.load(bundle, device)  # type: ignore[arg-type]
    recommender.check()
    from demos.gradio_app.app import Served, build_app

    listener = listen(host, port)
    app = build_app(recommender)
    signals = Signals(signal.SIGINT, signal.SIGTERM)  # the page can be reached before `Served` returns
    page = Served(app, listener, [host, *allow_hosts])
    say(f"{page.url} (Ctrl-C stops)")
    signals.next()
    page.close()
