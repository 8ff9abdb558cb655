"""Refusal of requests that a foreign web page makes a browser send.

A page of another site can point its own name at this server's address (DNS rebinding) and then read the
answers: such requests have the foreign name as their `Host`. Other cross-site requests have an `Origin`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.http.middleware.refusal import refuse

# An authority without user information: a name, an IPv4 address or an IPv6 one in brackets, and a port.
AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/?#@\s]+)(?::[0-9]*)?")


class HostCheck:
    """ASGI middleware: 421 for a foreign `Host`, 403 for a foreign `Origin`, for HTTP and WebSockets.

    A `Host` passes if it is an IP address or `localhost`, which health probes use and no page can claim, or
    one of `allowed`. A request without a `Host` (HTTP/1.0) comes from no browser and passes. An `Origin`
    passes if it is this server's own (the host and port in `Host`), or its host is one of `allowed`: names
    such as `recommender.example`, in any case, of any port. Addresses and `localhost` have no effect there:
    pages on other ports of them stay foreign.
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
        hosts, origins = [], []
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value.decode("latin-1").lower())
            elif name == b"origin":
                origins.append(value.decode("latin-1").lower())
        if len(hosts) > 1 or (hosts and not self._is_ours(hosts[0])):
            message = "The Host is not a name of this server. --allow-host NAME adds one."
            await refuse(scope, receive, send, 421, "misdirected_request", message)
        elif not all(self._may_ask(origin, hosts) for origin in origins):
            message = "Pages of other origins may not use this server. --allow-host NAME allows one."
            await refuse(scope, receive, send, 403, "foreign_origin", message)
        else:
            await self.app(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        return name in self.allowed or _is_own(name)

    def _may_ask(self, origin: str, hosts: list[str]) -> bool:
        scheme, _, authority = origin.partition("://")
        return scheme in ("http", "https") and (authority in hosts or _name(authority) in self.allowed)


@lru_cache(maxsize=256)  # most requests have the same Host
def _name(authority: str) -> str:
    """The host of an authority, without port, brackets and the trailing dot; "": it is not an authority."""
    match = AUTHORITY.fullmatch(authority)
    return match[1].strip("[]").removesuffix(".") if match else ""


@lru_cache(maxsize=256)
def _is_own(name: str) -> bool:
    """Whether a host is `localhost` or an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    return True
