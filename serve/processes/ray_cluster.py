"""Connecting to Ray, without its dashboard and usage reports. Import this module before Ray."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

from serve.errors import ClusterError

PATIENCE = 5.0
"""Seconds to wait for a connection."""
TOKEN = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"

# Ray reads these when it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Without this, Ray warns that a future release won't hide the GPUs from workers that ask for none.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
if "RAY_AUTH_TOKEN" in os.environ:
    # `ray start --head` infers this from a token; ray.init does not.
    os.environ.setdefault("RAY_AUTH_MODE", "token")


def connect(address: str | None) -> None:
    """Connect to the cluster at an address ("auto" or HOST:PORT), or (None) to one that is started here.

    Raises:
        ClusterError: there is no cluster, or it requires a token.
    """
    import ray

    _check_reachable(address)
    where = f" at {address}" if address else ""
    try:
        ray.init(
            address=address or "local",
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except ray.exceptions.AuthenticationError:
        raise ClusterError(f"the Ray cluster{where} wants its token: {TOKEN}.") from None
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0].rstrip(".")
        raise ClusterError(f"no Ray cluster{where}: {first}. If it has a token: {TOKEN}.") from None


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected as by `connect` unless it is already; disconnected at the end if it was before."""
    import ray

    ours = not ray.is_initialized()
    if ours:
        connect(address)
    try:
        # Ray reports dead workers on stdout, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            yield ray
    finally:
        if ours:
            ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Raise ClusterError where nothing listens: Ray itself would try for ten minutes."""
    host, _, port = (address or "").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"no Ray cluster at {address}: {error}. `ray status` says where it is.") from None
