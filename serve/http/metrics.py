"""What Prometheus may ask for. With several worker processes, any of them answers for all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from serve.http.model import Model

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
# The supervisor names a folder here, in which the workers' counts lie as memory-mapped files.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The counts of one app."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "recsys_http_requests",
            "Requests that were answered.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "recsys_http_request_seconds",
            "From the request's headers to the end of its response; shed requests left out.",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._seconds.labels("other")  # opens its file now: later the process may have no descriptor left
        self._shed = Counter(
            "recsys_http_shed", "Requests answered 503 for overload.", registry=self._registry
        )
        self._model = Gauge(
            "recsys_model_loaded_timestamp_seconds",
            "When the model was loaded that answers now, in seconds since 1970; 0 for an earlier one.",
            ["version", "device"],
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        self._labelled: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._version: tuple[str, str] | None = None

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one response."""
        key = (route, method, status)
        found = self._labelled.get(key)
        if found is None:
            # Labels are few: routes are those of the app, or "other"; methods and statuses those of HTTP.
            found = self._requests.labels(route, method, str(status)), self._seconds.labels(route)
            self._labelled[key] = found
        found[0].inc()
        found[1].observe(seconds)

    def shed(self, n: int) -> None:
        """Count requests that were turned away."""
        self._shed.inc(n)

    def model_swapped(self, model: Model) -> None:
        """State which model answers from now on."""
        if self._version is not None:
            self._model.labels(*self._version).set(0)
        self._version = (model.version, model.recommender.device)
        self._model.labels(*self._version).set_to_current_time()

    def text(self) -> bytes:
        """All counts, in Prometheus' text format."""
        if FOLDER_VARIABLE in os.environ:
            registry = CollectorRegistry()
            _OfAllWorkers(registry)  # type: ignore[no-untyped-call]
            return generate_latest(registry)
        return generate_latest(self._registry)


class _OfAllWorkers(MultiProcessCollector):
    """Leaves out a file that has no size yet: its worker has just made it, or died while it did."""

    def collect(self) -> Iterable[Metric]:
        """See Prometheus' own."""
        while True:
            files = [str(path) for path in Path(self._path).glob("*.db") if _size(path)]
            with contextlib.suppress(FileNotFoundError):  # one has gone since, with its worker
                metrics: Iterable[Metric] = self.merge(files)  # type: ignore[no-untyped-call]
                return metrics


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # of a worker that has just been found dead
        return 0
