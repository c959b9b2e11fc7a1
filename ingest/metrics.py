"""The edge's own metrics, on a registry that is passed in. No label holds a part of the input."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ingest.errors import Answer
from schemas.vonage.reasons import Reason

Route = Literal["webhooks", "sends"]

_ACK_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 15.0)


class Metrics:
    """Counters by row of ``ingest/errors.py``; children are looked up once each."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            "sendtrace_edge_answers",
            "Requests answered, by row of the answer table and reason for quarantine",
            ("route", "answer", "status", "reason"),
            registry=registry,
        )
        self._children: dict[tuple[Route, str, Reason | None], Counter] = {}
        self.ack_seconds = Histogram(
            "sendtrace_edge_ack_seconds",
            "From a batch's first record to Kafka's acknowledgement; one observation per batch",
            buckets=_ACK_BUCKETS,
            registry=registry,
        )
        self.in_flight_bytes = Gauge(
            "sendtrace_edge_in_flight_bytes",
            "Bytes being read or waiting for Kafka's acknowledgement",
            registry=registry,
        )
        self.replacements = Counter(
            "sendtrace_edge_producer_replacements",
            "Producers replaced after a failure",
            registry=registry,
        )

    def answered(self, route: Route, answer: Answer, reason: Reason | None = None) -> None:
        key = (route, answer.name, reason)
        child = self._children.get(key)
        if child is None:
            labels = (route, answer.name, str(answer.http_status), reason or "")
            child = self._children[key] = self._answers.labels(*labels)
        child.inc()
