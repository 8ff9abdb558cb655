"""Refuse requests that a foreign web page makes a browser send.

A page of another site can point its own name at this server's address (DNS rebinding) and then read what it
answers: such requests carry the foreign name as their `Host`. Other requests across sites carry an `Origin`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.http.middleware.refusal import refuse

# An authority without user information: a name, an IPv4 address or an IPv6 one in brackets, and a port.
AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/?#@\s]+)(?::[0-9]*)?")


class HostCheck:
    """ASGI middleware: 421 for a foreign `Host`, 403 for a foreign `Origin`, for HTTP and WebSockets.

    A `Host` passes if it is an IP address or `localhost`, which health probes use and no page can claim, or
    one of `allowed`. A request without a `Host` (HTTP/1.0) comes from no browser and passes. An `Origin`
    passes if it is this server's own (the host and port in `Host`), or its host is one of `allowed`.

    Args:
        app: What answers the requests that pass.
        allowed: Host names, in any case: `recommender.example`. Ports are ignored. Addresses and `localhost`
            among them change nothing: pages of other ports there stay foreign.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str] = ()) -> None:
        self.app = app
        names = {_name(name.lower()) for name in allowed}
        self.allowed = {name for name in names if name and not _is_own(name)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        hosts = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        origins = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"origin"]
        if len(hosts) > 1 or not all(self._is_ours(host) for host in hosts):
            message = "This server does not answer to that Host. --allow-host NAME lets it answer to a name."
            await refuse(scope, receive, send, 421, "misdirected_request", message)
        elif not all(self._may_ask(origin, hosts) for origin in origins):
            message = "A page of another origin may not ask this server. --allow-host NAME lets one."
            await refuse(scope, receive, send, 403, "foreign_origin", message)
        else:
            await self.app(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        return name in self.allowed or _is_own(name)

    def _may_ask(self, origin: str, hosts: list[str]) -> bool:
        scheme, _, authority = origin.partition("://")
        return scheme in ("http", "https") and (authority in hosts or _name(authority) in self.allowed)


def _name(authority: str) -> str:
    """The host of an authority, without port, brackets and the dot of a full name; "" where it is none."""
    match = AUTHORITY.fullmatch(authority)
    return match[1].strip("[]").removesuffix(".") if match else ""


def _is_own(name: str) -> bool:
    """Whether a host is `localhost` or an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    return True
