"""Parsing of a JSON body, or of a query string, into its schema. Nothing in them is guessed or ignored."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from serve.http.problems import Problem

Headers = Iterable[tuple[bytes, bytes]]
"""Of an ASGI scope: names are in lower case."""
Schema = TypeVar("Schema", bound=BaseModel)
GZIP = b"\x1f\x8b"
BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def from_body(headers: Headers, body: bytes, schema: type[Schema]) -> Schema:
    """The request in a JSON body.

    Raises:
        Problem: the body is of another type, or compressed; a field is there twice.
        RequestValidationError: it is not JSON, or does not fit the schema.
    """
    _check_type(headers)
    try:
        found = schema.model_validate_json(body)
    except ValidationError as error:
        _check_encoding(body)
        raise _invalid(error) from None
    # Each field has a colon, and repeated ones are rare: hardly any body is parsed a second time.
    if body.count(b":") > len(found.model_fields_set):
        json.loads(body, object_pairs_hook=_check_repeated)
    return found


def from_query(query: bytes, schema: type[Schema]) -> Schema:
    """The request in a query string.

    Raises:
        Problem: it is not percent-encoded UTF-8, or a parameter is there twice.
        RequestValidationError: it does not fit the schema.
    """
    try:
        text = query.decode("ascii")
        if re.search("%(?![0-9A-Fa-f]{2})", text):
            raise ValueError
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
    except ValueError:
        raise Problem(422, "invalid_request", "The query is not percent-encoded UTF-8.") from None
    _check_repeated(pairs)
    try:
        return schema.model_validate(dict(pairs))
    except ValidationError as error:
        raise _invalid(error) from None


def _check_type(headers: Headers) -> None:
    """Raise Problem: the headers declare anything but JSON."""
    types = [value for name, value in headers if name == b"content-type"]
    kind = b", ".join(types).decode("latin-1")
    if len(types) != 1 or kind.partition(";")[0].strip().lower() != "application/json":
        given = f"is {kind!r:.80}" if kind.strip() else "is missing"
        raise _unsupported(f"The content type must be application/json, and {given}.")


def _check_encoding(body: bytes) -> None:
    """Raise Problem: a body that is not JSON is compressed, or has another encoding than UTF-8."""
    if body.startswith(GZIP):
        raise _unsupported("The body is compressed with gzip: send it uncompressed.")
    if body.startswith(BYTE_ORDER_MARKS):
        message = "The body begins with a byte order mark: send JSON as UTF-8 without one."
        raise Problem(400, "bad_json", message)


def _unsupported(message: str) -> Problem:
    return Problem(415, "unsupported_media_type", message)


def _invalid(error: ValidationError) -> RequestValidationError:
    return RequestValidationError(error.errors(include_url=False, include_context=False))


def _check_repeated(pairs: list[tuple[str, Any]]) -> None:
    """Raise Problem: of two values for one name, parsers take either."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        name = next(name for name, count in Counter(names).items() if count > 1)
        raise Problem(422, "invalid_request", f"{name!r:.80} is given more than once.")
