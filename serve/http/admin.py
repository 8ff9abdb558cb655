"""`POST /admin/reload`, on a listener of its own that is off unless asked for, and on loopback only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve.errors import ServeError
from serve.http.bearer import authorize, digest
from serve.http.control import Reply
from serve.http.problems import CLOSE, Problem, internal_error, no_route

Reload = Callable[[], Awaitable[Reply]]


def create_admin_app(reload: Reload, token: str | None) -> Starlette:
    """The one route.

    Args:
        reload: Loads what the pointer leads to, in every worker, or raises a ServeError and changes nothing.
        token: The service's bearer token, if it has one.
    """
    token_digest = None if token is None else digest(token.encode())

    async def reload_route(request: Request) -> Response:
        try:
            if token_digest is not None:
                authorize(token_digest, request.headers.get("authorization", "").encode("latin-1"))
            if "origin" in request.headers:
                # A page in a browser on this machine could send this otherwise.
                raise Problem(403, "forbidden", "This route is not for browsers.")
            reply = await reload()
        except Problem as problem:
            return problem.response()
        except ServeError as error:
            return Problem(409, "reload_failed", f"Nothing was changed. {error}").response()
        except asyncio.CancelledError:  # by a stop
            return Problem(503, "stopping", "The service stops.", headers=CLOSE).response()
        except Exception:  # noqa: BLE001  told in the log
            return internal_error()
        content = {"status": "reloaded", "model_version": reply.version, "device": reply.device}
        return Response(msgspec.json.encode(content), media_type="application/json")

    route = Route("/admin/reload", reload_route, methods=["POST"])
    return Starlette(routes=[route], exception_handlers={HTTPException: no_route})
