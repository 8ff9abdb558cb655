"""Connecting to Ray: without its dashboard and reports of use, and with an error that says what to do.

To be imported before Ray itself.
"""

from __future__ import annotations

import logging
import os
import socket

from serve.errors import ClusterError

PATIENCE = 5.0
"""Seconds."""
TOKEN = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"

# Ray looks at these as it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# It sets CUDA_VISIBLE_DEVICES to nothing for workers without GPUs; a future release won't, and says so.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
if "RAY_AUTH_TOKEN" in os.environ:
    # `ray start --head` takes a token to mean this, and nobody else does.
    os.environ.setdefault("RAY_AUTH_MODE", "token")


def connect(address: str | None) -> None:
    """Connect to the cluster at an address ("auto" or HOST:PORT), or (None) to one that is started here.

    Raises:
        ClusterError: there is none, or it wants a token.
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


def _check_reachable(address: str | None) -> None:
    """Ray itself would try for ten minutes.

    Raises:
        ClusterError: nobody listens there.
    """
    host, _, port = (address or "").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"no Ray cluster at {address}: {error}. `ray status` says where it is.") from None
