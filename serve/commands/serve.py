"""`recsys serve`: a bundle over HTTP."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from serve.commands.listen import listen, warn_of_reach
from serve.commands.options import (
    allow_host_option,
    bundle_argument,
    choice_option,
    device_option,
    exact_option,
    inapplicable,
    tf32_option,
)
from serve.processes.listener import url
from serve.reading.options import IntegerRange, NumberRange
from serve.terminal import say

TOKEN_VARIABLE = "RECSYS_TOKEN"


def _read_token(token_file: Path | None) -> str | None:
    """The bearer token of the file, else of the environment; None: there is none."""
    if token_file is not None:
        try:
            token, source = token_file.read_text(encoding="utf-8").strip(), str(token_file)
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"--token-file {token_file} can't be read: {error}") from None
    elif TOKEN_VARIABLE in os.environ:
        token, source = os.environ[TOKEN_VARIABLE].strip(), TOKEN_VARIABLE
    else:
        return None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise click.UsageError(f"{source} must hold a token: one word of printable ASCII.")
    return token


@click.command()
@bundle_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=IntegerRange(0, 65535),
    default=8000,
    show_default=True,
    help="The port to listen on; 0 takes a free one.",
)
@click.option(
    "--workers",
    type=IntegerRange(1, 256),
    default=1,
    show_default=True,
    help="Processes (or replicas, with --engine ray) that answer.",
)
@choice_option(
    "--engine", "local", "ray", help="Worker processes on this machine, or replicas under Ray Serve."
)
@click.option("--address", help="With --engine ray: the cluster to join, else one is started here.")
@click.option(
    "--threads",
    type=IntegerRange(min=1),
    help="CPU threads of one answer. [default: the CPUs divided by the workers]",
)
@click.option(
    "--share-tables/--no-share-tables",
    default=None,
    help="Workers share the pages of tables.bin, which is slower. [default: where there are several]",
)
@exact_option
@click.option(
    "--max-concurrency",
    type=IntegerRange(min=1),
    help="Requests that wait or run in a worker; more are answered 503. [default: 64]",
)
@click.option("--max-body-bytes", type=IntegerRange(min=1), help="Largest request body. [default: 1 MiB]")
@click.option(
    "--grace-seconds",
    type=IntegerRange(min=0),
    help="After SIGTERM, how long running requests may take. [default: 10]",
)
@click.option(
    "--drain-seconds",
    type=NumberRange(min=0),
    help="After SIGTERM, how long to answer on while /health/ready says 503. [default: 1]",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="A file with the bearer token that every route but health requires; or set RECSYS_TOKEN.",
)
@click.option(
    "--require-signature",
    is_flag=True,
    help="Answer from a bundle only if the holder of --public-key has signed it (`recsys sign`).",
)
@click.option(
    "--public-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A PEM file with the key, for --require-signature.",
)
@allow_host_option
@device_option
@tf32_option
def serve(
    bundle: Path,
    host: str,
    port: int,
    workers: int,
    engine: str,
    address: str | None,
    threads: int | None,
    share_tables: bool | None,
    exact: bool,
    token_file: Path | None,
    require_signature: bool,
    public_key: Path | None,
    allow_hosts: tuple[str, ...],
    device: str,
    tf32: bool,
    **limits: float | None,
) -> None:
    """Serve BUNDLE over HTTP: a bundle, a link to one, or a text file that names one.

    \b
      recsys serve artifacts/default
      curl -s localhost:8000/v1/recommend -H 'content-type: application/json' -d '{"user_id": 42}'

    A new bundle answers seconds after the link or the text file names it. SIGHUP restarts the workers one by
    one; SIGTERM stops once running requests are answered.
    """
    if sys.platform == "win32":
        raise click.UsageError("`recsys serve` needs Linux or macOS; on Windows use WSL or a container.")
    from serve.bundle.manifest import read_manifest
    from serve.http.pointer import resolve
    from serve.http.settings import ServiceSettings
    from serve.runtime.session import available_cpus

    if require_signature != (public_key is not None):
        raise click.UsageError("--require-signature and --public-key go together.")
    if public_key is not None:
        from serve.bundle.signature import check_public_key, check_signature

        check_public_key(public_key)
        check_signature(resolve(bundle), public_key)
    read_manifest(resolve(bundle))  # a wrong path is refused here, before workers start
    token = _read_token(token_file)
    if address is not None and engine != "ray":
        inapplicable("address", "is for --engine ray.")
    if token is None:
        warn_of_reach(host, "no token is set")
    settings = ServiceSettings(
        bundle=bundle.absolute(),
        device=device,  # type: ignore[arg-type]
        tf32=tf32,
        threads=threads or max(1, available_cpus() // workers),
        share_tables=workers > 1 if share_tables is None else share_tables,
        exact=exact,
        public_key=None if public_key is None else public_key.absolute(),
        token=token,
        allowed_hosts=allow_hosts,
        **{name: value for name, value in limits.items() if value is not None},  # type: ignore[arg-type]
    )
    if engine == "ray":
        for name, value in (("drain_seconds", limits["drain_seconds"]), ("share_tables", share_tables)):
            if value is not None:
                inapplicable(name, "has no effect with --engine ray.")
        if port == 0:
            raise click.UsageError("--port 0: Ray's proxies need a port that is known. Choose one.")
        if address is None:
            listen(host, port).close()  # a taken port is reported here, not by Ray
        from serve.http.on_ray import run_on_ray

        run_on_ray(settings, host=host, port=port, n_replicas=workers, address=address, say=say)
        return
    from serve.http.service import run_service

    listener = listen(host, port)
    run_service(replace(settings, url=url(listener)), listener, workers)
