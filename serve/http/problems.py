"""What the exceptions of the routes are answered with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serve.errors import RequestError, UnknownIdError, UnsupportedError
from serve.http.middleware.refusal import error_body

MAX_DETAILS = 10
STATUSES: dict[type[Exception], tuple[int, str]] = {
    UnknownIdError: (404, "unknown_id"),
    RequestError: (422, "invalid_request"),
    UnsupportedError: (422, "unsupported"),
}
HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}


class Problem(Exception):  # noqa: N818  often the client's error
    """An error response: its status, code, message and headers."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers


async def _respond(request: Request, error: Exception) -> Response:
    message, headers = str(error), None
    details: list[dict[str, str]] = []
    if isinstance(error, Problem):
        status, code, headers = error.status, error.code, error.headers
    elif isinstance(error, HTTPException):  # Starlette's own: no such route, or no such method
        status, code = error.status_code, HTTP_CODES.get(error.status_code, "bad_request")
        headers = dict(error.headers or {})
        message = "There is no such route; /openapi.json lists them." if status == 404 else error.detail
    elif isinstance(error, RequestValidationError):
        errors = error.errors()
        if errors[0]["type"] == "json_invalid":
            status, code, message = 400, "bad_json", f"The body is not JSON: {errors[0]['msg']}."
        else:
            status, code = STATUSES[RequestError]
            details = [_detail(entry) for entry in errors[:MAX_DETAILS]]
            message = "{where}: {message}".format_map(details[0])
    else:
        status, code = next(of for kind, of in STATUSES.items() if isinstance(error, kind))
    content = error_body(code, _as_utf8(message), details)
    return Response(content, status, headers, media_type="application/json")


HANDLERS: dict[Any, Any] = dict.fromkeys(
    (Problem, RequestValidationError, HTTPException, *STATUSES), _respond
)
"""For every exception that the routes raise on purpose."""


def _detail(entry: Mapping[str, Any]) -> dict[str, str]:
    where = ".".join(str(part) for part in entry["loc"]) or "body"
    said = entry["msg"].removeprefix("Value error, ")  # pydantic's prefix of a validator's own message
    given = "" if entry["type"] == "missing" else f" (got {entry['input']!r:.80})"
    return {"where": _as_utf8(f"{where:.200}"), "message": _as_utf8(said + given)}


def _as_utf8(text: str) -> str:
    """The text with lone surrogates replaced: JSON can hold them, UTF-8 can't."""
    return text.encode("utf-8", "replace").decode()
