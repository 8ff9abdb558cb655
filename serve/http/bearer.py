"""The bearer token that every route but health asks for, where one is set."""

from __future__ import annotations

import hashlib
import hmac

from serve.http.problems import Problem


def authorize(token_digest: bytes, header: bytes) -> None:
    """Check the `Authorization` header.

    Raises:
        Problem: it does not hold the token.
    """
    scheme, _, token = header.partition(b" ")
    # Digests are of one length, and compared in constant time: nothing of the token leaks.
    if scheme.lower() != b"bearer" or not hmac.compare_digest(digest(token.strip()), token_digest):
        raise Problem(
            401,
            "unauthorized",
            "This service asks for a bearer token: Authorization: Bearer TOKEN.",
            headers={"www-authenticate": "Bearer"},
        )


def digest(token: bytes) -> bytes:
    """SHA-256 of a token, as `authorize` takes it."""
    return hashlib.sha256(token).digest()
