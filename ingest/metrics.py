"""The edge's own metrics, on a registry that is passed in. No label holds a part of the input:
accounts are configured ones."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from ingest.errors import Answer

Route = Literal["webhooks", "sends", "internal"]
Closed = Literal["headers_slow", "headers_large", "answer_slow"]

_ACK_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 15.0)
# A signature costs some 10 us, a body of 1 MiB some milliseconds.
_VERIFY_BUCKETS = (0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.005, 0.02)


class Timing(Collector):
    """A histogram that costs 0.3 us an observation: one thread writes it, so it has no lock."""

    def __init__(
        self, name: str, documentation: str, bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterable[Metric]:
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((str(bound), total))
        yield HistogramMetricFamily(self._name, self._documentation, buckets, self._sum)


class Metrics:
    """Counters by row of ``ingest/errors.py``; children are looked up once each."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            "sendtrace_edge_answers",
            "Requests answered, by row of the answer table, reason for quarantine, and account",
            ("route", "answer", "status", "reason", "account"),
            registry=registry,
        )
        self._children: dict[tuple[Route, str, str, str], Counter] = {}
        self._last_verified = Gauge(
            "sendtrace_edge_last_verified_timestamp_seconds",
            "When the last webhook of an account and API was verified, as Unix time",
            ("account", "api"),
            registry=registry,
        )
        self._last_verified_children: dict[tuple[str, str], Gauge] = {}
        self._timings(registry)
        self._states(registry)

    def _timings(self, registry: CollectorRegistry) -> None:
        self.verify_seconds = Timing(
            "sendtrace_edge_verify_seconds", "To verify one webhook", _VERIFY_BUCKETS, registry
        )
        self.enqueue_seconds = Timing(
            "sendtrace_edge_enqueue_seconds",
            "From a batch's first record to the producer; one observation per batch",
            _ACK_BUCKETS,
            registry,
        )
        self.ack_seconds = Timing(
            "sendtrace_edge_ack_seconds",
            "From a batch's first record to Kafka's acknowledgement; one observation per batch",
            _ACK_BUCKETS,
            registry,
        )

    def _states(self, registry: CollectorRegistry) -> None:
        self.in_flight_bytes = Gauge(
            "sendtrace_edge_in_flight_bytes",
            "Bytes being read or waiting for Kafka's acknowledgement",
            registry=registry,
        )
        self.connections = Gauge(
            "sendtrace_edge_connections", "Open connections of the public port", registry=registry
        )
        self._closed = Counter(
            "sendtrace_edge_connections_closed",
            "Connections closed because their client was too slow or sent too much",
            ("reason",),
            registry=registry,
        )
        self.replacements = Counter(
            "sendtrace_edge_producer_replacements",
            "Producers replaced after a failure",
            registry=registry,
        )
        self.account_differs = Counter(
            "sendtrace_edge_account_differs",
            "Webhooks whose body names another account than the one that was verified",
            registry=registry,
        )
        self._reloads = Counter(
            "sendtrace_edge_reloads",
            "Changed files of accounts and secrets, by whether they could be used",
            ("file", "result"),
            registry=registry,
        )
        self._broken = Gauge(
            "sendtrace_edge_file_broken",
            "1 while a changed file cannot be used, and the old content is",
            ("file",),
            registry=registry,
        )

    def answered(self, route: Route, answer: Answer, reason: str = "", account: str = "") -> None:
        key = (route, answer.name, reason, account)
        child = self._children.get(key)
        if child is None:
            labels = (route, answer.name, str(answer.http_status), reason, account)
            child = self._children[key] = self._answers.labels(*labels)
        child.inc()

    def verified(self, account: str, kind: str, at_us: int) -> None:
        """An SMS receipt may be one of the Alerts API: it counts as ``receipt``."""
        key = (account, kind)
        child = self._last_verified_children.get(key)
        if child is None:
            child = self._last_verified_children[key] = self._last_verified.labels(*key)
        child.set(at_us / 1_000_000)

    def closed(self, reason: Closed) -> None:
        self._closed.labels(reason).inc()

    def reloaded(self, file: Literal["accounts", "sends_token"], *, is_usable: bool) -> None:
        self._reloads.labels(file, "used" if is_usable else "broken").inc()
        self._broken.labels(file).set(0 if is_usable else 1)
