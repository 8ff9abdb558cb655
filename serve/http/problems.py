"""The errors that routes raise, in the one shape of every error: without internals, and with an id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serve.errors import RequestError, UnknownIdError, UnsupportedError
from serve.http.middleware.refusal import new_error_id

CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}
MAX_DETAILS = 10


class Problem(Exception):  # noqa: N818  said to the client, who may be the one in error
    """An error that the client may know of."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        details: Sequence[dict[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers, self.details = headers, details

    def response(self) -> Response:
        """What the client gets."""
        error = {
            "id": new_error_id(),
            "code": self.code,
            "message": _sayable(self.message),
            "details": list(self.details),
        }
        content = msgspec.json.encode({"error": error})
        return Response(content, self.status, self.headers, media_type="application/json")


def install(app: FastAPI) -> None:
    """Answer every exception that the routes raise on purpose in this shape."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(UnknownIdError, _unknown_id)
    app.add_exception_handler(RequestError, _invalid)
    app.add_exception_handler(UnsupportedError, _unsupported)
    app.add_exception_handler(RequestValidationError, _unvalidated)
    app.add_exception_handler(HTTPException, _no_route)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _unknown_id(request: Request, error: Exception) -> Response:
    return Problem(404, "unknown_id", str(error)).response()


async def _invalid(request: Request, error: Exception) -> Response:
    return Problem(422, "invalid_request", str(error)).response()


async def _unsupported(request: Request, error: Exception) -> Response:
    return Problem(422, "unsupported", str(error)).response()


async def _unvalidated(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if errors[0]["type"] == "json_invalid":
        return Problem(400, "bad_json", f"The body is not JSON: {errors[0]['msg']}.").response()
    details = [_detail(entry) for entry in errors[:MAX_DETAILS]]
    first = details[0]
    return Problem(
        422, "invalid_request", f"{first['where']}: {first['message']}", details=details
    ).response()


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, message = CODES.get(error.status_code, "bad_request"), str(error.detail)
    if error.status_code == 404:
        message = "There is no such route; /openapi.json lists them."
    headers = dict(error.headers) if error.headers else None
    return Problem(error.status_code, code, message, headers=headers).response()


def _detail(entry: dict[str, Any]) -> dict[str, str]:
    where = ".".join(str(part) for part in entry["loc"]) or "body"
    given = "" if entry["type"] == "missing" else f" (got {entry['input']!r:.80})"
    return {"where": _sayable(f"{where:.200}"), "message": _sayable(entry["msg"] + given)}


def _sayable(text: str) -> str:
    """JSON may bring half a surrogate pair, which can't be sent back as UTF-8."""
    return text.encode("utf-8", "replace").decode()
