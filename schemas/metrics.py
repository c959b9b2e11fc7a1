"""The catalogue of business metrics: every name, its meaning, its labels. Data, not code.

Each counter stands in ``totals`` under its name; the exporter serves it with the prefix
``sendtrace_``. What was entered and no longer holds is counted in ``<name>_withdrawn``: both only
grow, and the truth is the difference (``rules`` in deploy/prometheus hide that).

Every metric of messages has ``traffic``: test traffic stays out of rates and alerts. Labels come
from verified or known values, and label sets beyond a bound count as ``other``.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

# Provider clocks tick in whole seconds (docs/vonage.md 4): buckets under a second would lie.
LATENCY_BUCKETS_MS: tuple[int, ...] = (
    1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000,
    1_800_000, 3_600_000, 10_800_000, 43_200_000, 86_400_000, 259_200_000,
)  # fmt: skip
# Both ends on one clock of ours, finer than a second. As many as above: one layout for all records.
FINE_BUCKETS_MS: tuple[int, ...] = (
    25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000,
    30_000,
)  # fmt: skip


class Metric(Struct, frozen=True):
    """One business metric. ``unit`` tells how the integer in ``totals`` becomes the exposed one."""

    name: str
    kind: Literal["counter", "histogram"]
    help: str
    labels: tuple[str, ...]
    unit: Literal["count", "money", "milliseconds"] = "count"
    withdrawable: bool = False
    buckets_ms: tuple[int, ...] = LATENCY_BUCKETS_MS  # of a histogram


def _standing(
    name: str, words: str, *labels: str, unit: Literal["count", "money"] = "count"
) -> Metric:
    """A counter of what holds now, with a withdrawn twin."""
    return Metric(name, "counter", words, labels, unit, withdrawable=True)


_WHOSE = ("account", "api", "channel", "traffic")
_TIMED = ("account", "api", "channel", "clock", "traffic")

MESSAGES = _standing(
    "messages",
    "Messages that entered an outcome; those that left it are in the withdrawn twin",
    *("account", "api", "channel", "country", "outcome", "traffic"),
)
NETWORK_MESSAGES = _standing(
    "network_messages",
    "Messages by network (the event's, else the answer's estimate) and outcome: receipt coverage",
    *("channel", "network", "outcome", "traffic"),
)
SENDER_MESSAGES = _standing(
    "sender_messages",
    "Messages by sender and outcome",
    *("channel", "outcome", "sender", "traffic"),
)
SENDS = _standing(
    "sends",
    "Messages sent, by what Vonage answered; throttled ones are a kind of their own",
    *("account", "answer", "api", "channel", "status", "traffic"),
)
CODES = _standing(
    "codes",
    "Messages that did not go well, by code and its category",
    *("account", "api", "category", "channel", "code", "outcome", "traffic"),
)
UNKNOWN_CODES = _standing(
    "unknown_codes",
    "Messages with a code or a status that the catalogue does not have",
    *("api", "code", "status"),
)
COST = _standing(
    "cost",
    "Cost of messages in units of the currency; corrected costs are in the withdrawn twin",
    *("account", "api", "channel", "cost_source", "country", "currency", "traffic"),
    unit="money",
)
COST_COMPARED = _standing(
    "cost_compared",
    "The answer's price and the event's, of messages that have both",
    *("account", "api", "channel", "cost_source", "currency", "traffic"),
    unit="money",
)
SEGMENTS = _standing(
    "segments", "SMS that messages were cut into; a part of the SMS API is one", *_WHOSE
)
SEGMENTED_SENDS = _standing(
    "segmented_sends", "Sends whose segments are known: what segments are divided by", *_WHOSE
)
WITHOUT_SEND = _standing(
    "messages_without_send",
    "Messages with events and no send; those older than 5 minutes: entered 5 minutes ago, minus"
    " withdrawn",
    *_WHOSE,
)
FLAGGED = _standing(
    "flagged",
    "Messages with a flag: late, contradiction, no_first_event, no_send, overdue and others",
    *("account", "api", "channel", "flag", "traffic"),
)
ROLLUPS = _standing(
    "rollups",
    "Sends of several parts and failover workflows, by what became of the whole",
    *("account", "api", "channel", "kind", "outcome", "traffic"),
)


def _latency(name: str, words: str, buckets_ms: tuple[int, ...] = LATENCY_BUCKETS_MS) -> Metric:
    return Metric(name, "histogram", words, _TIMED, "milliseconds", buckets_ms=buckets_ms)


CARRIER_LATENCY = _latency(
    "carrier_latency",
    "From accepted or submitted to delivered, both on Vonage's clock; once per message",
)
DELIVER_LATENCY = _latency(
    "deliver_latency", "From Vonage's answer to the send to delivered; once per message"
)
ACCEPT_LATENCY = _latency(
    "accept_latency", "From the request to Vonage's answer; once per message", FINE_BUCKETS_MS
)
READ_LATENCY = _latency(
    "read_latency", "From delivered to read, both on Vonage's clock; once per message"
)
CALLBACK_LATENCY = _latency(
    "callback_latency",
    "From Vonage's time of the first status to its arrival, while the edge took webhooks",
)
INGEST_LAG = _latency(
    "ingest_lag", "From Vonage's time of the first status to its arrival, whatever the edge did"
)
LATENCY_CORRECTIONS = Metric(
    "latency_corrections",
    "counter",
    "Latencies that changed after they were observed (they are not subtracted)",
    ("account", "api", "channel", "stage", "traffic"),
)
EVENTS = Metric(
    "events",
    "counter",
    "Input records by topic and what they brought: new, repeat, after_forgetting, quarantined or"
    " rerouted",
    ("input", "result"),
)

GAPS = Metric(
    "gaps",
    "counter",
    "Positions that --accept-gap went on from elsewhere: deleted unread, remade or cut",
    ("input", "reason"),
)
GAP_RECORDS = Metric(
    "gap_records",
    "counter",
    "Offsets that nobody read because of them; what a topic that is gone held is not known",
    ("input", "reason"),
)

# In the order in which a contribution holds its latencies.
LATENCIES: tuple[Metric, ...] = (
    CARRIER_LATENCY, DELIVER_LATENCY, ACCEPT_LATENCY, READ_LATENCY, CALLBACK_LATENCY, INGEST_LAG,
)  # fmt: skip

CATALOGUE: tuple[Metric, ...] = (
    MESSAGES, NETWORK_MESSAGES, SENDER_MESSAGES, SENDS, CODES, UNKNOWN_CODES, COST, COST_COMPARED,
    SEGMENTS, SEGMENTED_SENDS, WITHOUT_SEND, FLAGGED, ROLLUPS, *LATENCIES, LATENCY_CORRECTIONS,
    EVENTS, GAPS, GAP_RECORDS,
)  # fmt: skip


def withdrawn(name: str) -> str:
    return f"{name}_withdrawn"
