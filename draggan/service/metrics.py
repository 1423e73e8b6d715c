"""What the service counts, in Prometheus' text form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "EngineCounts", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_LAG = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2)


@runtime_checkable
class EngineCounts(Protocol):
    """What an engine says about itself."""

    @property
    def under_way(self) -> int:
        """Drags and completions that are not over."""

    def ended(self) -> dict[str, int]:
        """How many drags have ended so far, by their outcome."""

    def computed(self) -> float:
        """Seconds that steps have taken so far."""


class Metrics:
    """The counters of one server.

    Args:
        engine: what else is to be told; None: nothing.
    """

    def __init__(self, engine: EngineCounts | None = None) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self._requests = Counter("draggan_requests", "Requests to the service.", ["route", "status"], registry=registry)
        self._seconds = Histogram(
            "draggan_request_seconds",
            "From a request to its last byte.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.live = Gauge("draggan_live_connections", "Open connections to /v1/live.", registry=registry)
        self.pictures = Counter("draggan_live_pictures", "Pictures sent over /v1/live.", registry=registry)
        self.lag = Histogram(
            "draggan_live_lag_seconds",
            "From targets' arrival to the first picture that was made for them, sent.",
            buckets=_LAG,
            registry=registry,
        )
        ProcessCollector(registry=registry)
        if engine is not None:
            registry.register(_Engine(engine))

    def count(self, route: str, status: int, seconds: float) -> None:
        """A request is over."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus asks for it."""
        return generate_latest(self._registry)


class _Engine(Collector):
    def __init__(self, engine: EngineCounts) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "draggan_drags_under_way", "Drags and completions that are not over.", value=self._engine.under_way
        )
        yield CounterMetricFamily(
            "draggan_engine_seconds", "Seconds that steps have taken.", value=self._engine.computed()
        )
        drags = CounterMetricFamily("draggan_drags", "Drags that have ended.", labels=["outcome"])
        for outcome, count in sorted(self._engine.ended().items()):
            drags.add_metric([outcome], count)
        yield drags
