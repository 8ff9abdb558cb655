"""Prometheus metrics. Any worker process answers for all of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
# Names the folder in which Prometheus' client keeps each process' values in memory-mapped files.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The metrics of one app; `shed` and `load_failures` are incremented by their callers."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "recsys_http_requests",
            "Answered requests.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "recsys_http_request_seconds",
            "From the headers of the request to the end of its response, without those answered 503.",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._seconds.labels("other")  # opens its file before connections use up the file descriptors
        self.shed = Counter(
            "recsys_http_shed", "Requests answered 503 for overload.", registry=self._registry
        )
        self.load_failures = Counter(
            "recsys_model_load_failures", "Bundles that could not be loaded.", registry=self._registry
        )
        self._model = Gauge(
            "recsys_model_loaded_timestamp_seconds",
            "Unix time at which the model that answers was loaded; 0: a previous model.",
            ["version", "device"],
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )
        self._labelled: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._version: tuple[str, str] | None = None

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one response."""
        key = (route, method, status)
        found = self._labelled.get(key)
        if found is None:
            found = self._requests.labels(route, method, str(status)), self._seconds.labels(route)
            self._labelled[key] = found
        found[0].inc()
        if status != 503:
            found[1].observe(seconds)

    def model_swapped(self, version: str, device: str) -> None:
        """Record the model that answers from now on."""
        if self._version is not None:
            self._model.labels(*self._version).set(0)
        self._version = (version, device)
        self._model.labels(*self._version).set_to_current_time()

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        if folder := os.environ.get(FOLDER_VARIABLE):
            registry = CollectorRegistry()
            registry.register(_AllWorkers(Path(folder)))
            return generate_latest(registry)
        return generate_latest(self._registry)


class _AllWorkers:
    """Prometheus' `MultiProcessCollector`, without files that a worker has created and not yet filled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client.registry.Collector`."""
        files = [str(path) for path in self._folder.glob("*.db") if path.stat().st_size]
        metrics: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return metrics
