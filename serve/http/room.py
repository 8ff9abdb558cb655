"""How many requests a worker takes on at once, and what the others are told: prepared, for turning away is
all that can be done quickly when there is too much to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Set

from serve.http.bearer import authorize, digest
from serve.http.metrics import Metrics
from serve.http.model import CurrentModel
from serve.http.problems import Problem, new_id
from serve.http.settings import Settings

Headers = list[tuple[bytes, bytes]]

PREFIX = "/v1/"
# Where an error's id stands in what is prepared.
ERROR_ID = new_id()


class Overloaded(Exception):  # noqa: N818  as Problem
    """There is no room for this request."""


class Room:
    """The room of one worker. Belongs to one event loop."""

    def __init__(
        self, settings: Settings, current: CurrentModel, metrics: Metrics, routes: Set[tuple[str, str]]
    ) -> None:
        self.current, self.metrics, self.routes = current, metrics, routes
        self.limit = settings.max_concurrency
        self.n_at_work = 0
        self._n_let_in = 0
        """In this turn of the event loop, which may bring hundreds; they are at work from the next one on."""
        self._n_turned_away = 0
        """In this turn; a counter that several processes share is too slow for each."""
        self._looks_back = False
        self.token_digest = None if settings.token is None else digest(settings.token.encode())
        refusal = later("overloaded", f"{self.limit} requests wait already.", settings).response(ERROR_ID)
        self._headers, self._body = refusal.raw_headers, bytes(refusal.body)

    def check(self) -> None:
        """See that there is room for one more.

        Raises:
            Overloaded: there is none.
        """
        if self.n_at_work >= self.limit:
            raise Overloaded

    def take(self) -> Callable[[], None]:
        """Room for one request; what this gives is to be called when it needs that no longer, once or more.

        Raises:
            Overloaded: there is none.
        """
        self.check()
        self.n_at_work += 1
        is_taken = True

        def leave() -> None:
            nonlocal is_taken
            self.n_at_work -= is_taken
            is_taken = False

        return leave

    def is_asked_by(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request will take room when it has come, and whoever sends it may.

        Args:
            method: The request's.
            path: Without a query.
            headers: Names in lower case, and values.
        """
        if self.current.model is None or not path.startswith(PREFIX) or (method, path) not in self.routes:
            return False
        if self.token_digest is None:
            return True
        given = next((value for name, value in headers if name == b"authorization"), b"")
        try:
            authorize(self.token_digest, given)
        except Problem:
            return False
        return True

    def is_full(self) -> bool:
        """Whether there is none for one more, besides those that are about to begin."""
        return self.n_at_work + self._n_let_in >= self.limit

    def let_in(self) -> None:
        """Count a request that has come whole, and begins in the next turn of the event loop."""
        self._n_let_in += 1
        self._look_back_soon()

    def _look_back_soon(self) -> None:
        if not self._looks_back:
            self._looks_back = True
            asyncio.get_running_loop().call_soon(self._look_back)

    def _look_back(self) -> None:
        n_turned_away, self._n_turned_away = self._n_turned_away, 0
        self._n_let_in, self._looks_back = 0, False
        self.metrics.shed(n_turned_away)

    def refusal(self) -> tuple[Headers, bytes]:
        """Headers and body of the answer to one that is turned away; its status is 503. Counts it."""
        self._n_turned_away += 1
        self._look_back_soon()
        body = self._body.replace(ERROR_ID.encode(), new_id().encode())
        return [*self._headers, *marks(self.current)], body


def later(code: str, message: str, settings: Settings) -> Problem:
    """What a client is told who may come again."""
    seconds = settings.retry_after_seconds
    return Problem(503, code, f"{message} Try again in {seconds} s.", headers={"retry-after": str(seconds)})


def marks(current: CurrentModel) -> Headers:
    """The headers that every response has."""
    found = [(b"x-content-type-options", b"nosniff")]
    if current.model is not None:
        found.append((b"x-model-version", current.model.version.encode()))
    if current.draining:
        found.append((b"connection", b"close"))
    return found
