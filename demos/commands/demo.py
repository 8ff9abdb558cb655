"""`recsys demo`: a bundle as a web page."""

from __future__ import annotations

import signal
import webbrowser
from pathlib import Path

import click

from demos.commands.other_bundle import other_argument
from serve.commands.listen import listen, warn_of_reach
from serve.commands.options import allow_host_option, bundle_argument, device_option
from serve.processes.signals import Signals
from serve.reading.options import IntegerRange
from serve.terminal import say, warn

PORT = 7860
N_PORTS = 20
"""How many ports are tried, from `PORT` on."""


@click.command()
@bundle_argument
@other_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=IntegerRange(0, 65535),
    help=f"The port to listen on; 0 takes a free one. [default: {PORT}, or the next that is free]",
)
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
@allow_host_option
@device_option
def demo(
    bundle: Path,
    other: Path | None,
    host: str,
    port: int | None,
    opened: bool,
    allow_hosts: tuple[str, ...],
    device: str,
) -> None:
    """Show BUNDLE as a page: pick a user, rate as a new user, similar items, a map, the model's card.

    With OTHER, a second bundle of the same data, a tab compares the lists of the two.

    \b
      recsys demo artifacts/default --open
      recsys demo artifacts/default artifacts/candidate
    """
    from serve import Recommender

    warn_of_reach(host, "the page has no log-in")
    shown = []
    for path in [bundle, *([other] if other else [])]:
        warn(f"Loading {path} …")
        shown.append(Recommender.load(path, device))  # type: ignore[arg-type]
        shown[-1].check()
    listener = listen(host, PORT, N_PORTS - 1) if port is None else listen(host, port)
    from demos.gradio_app.app import build_app, mounted, served
    from demos.gradio_app.guard import guarded

    app = guarded(mounted(build_app(*shown)), [host, *allow_hosts])
    signals = Signals(signal.SIGINT, signal.SIGTERM)  # the page can be reached before `served` yields
    with served(app, listener) as url:
        say(f"{url} (Ctrl-C stops)")
        if opened and not webbrowser.open(url.replace("//0.0.0.0:", "//127.0.0.1:").replace("[::]", "[::1]")):
            warn("There is no browser to open the page with.")
        signals.next()
