"""The catalogue of business metrics: every name, its meaning, its labels. Data, not code.

Each counter stands in ``totals`` under its name; the exporter serves it with the prefix
``sendtrace_``. What was entered and no longer holds is counted in ``<name>_withdrawn``: both only
grow, and the truth is the difference (``rules`` in deploy/prometheus hide that).
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

# Provider clocks tick in whole seconds (FACTS section 4): buckets under a second would lie.
LATENCY_BUCKETS_MS: tuple[int, ...] = (
    1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000,
    1_800_000, 3_600_000, 10_800_000, 43_200_000, 86_400_000, 259_200_000,
)  # fmt: skip


class Metric(Struct, frozen=True):
    """One business metric. ``unit`` tells how the integer in ``totals`` becomes the exposed one."""

    name: str
    kind: Literal["counter", "histogram"]
    help: str
    labels: tuple[str, ...]
    unit: Literal["count", "money", "milliseconds"] = "count"
    withdrawable: bool = False


MESSAGES = Metric(
    "messages",
    "counter",
    "Messages that entered an outcome; those that left it are in the withdrawn twin",
    ("account", "api", "channel", "outcome"),
    withdrawable=True,
)
COST = Metric(
    "cost",
    "counter",
    "Cost of messages in units of the currency; corrected costs are in the withdrawn twin",
    ("account", "api", "channel", "cost_source", "currency"),
    unit="money",
    withdrawable=True,
)
CARRIER_LATENCY = Metric(
    "carrier_latency",
    "histogram",
    "From accepted or submitted to delivered, both on Vonage's clock; once per message",
    ("account", "api", "channel"),
    unit="milliseconds",
)
LATENCY_CORRECTIONS = Metric(
    "latency_corrections",
    "counter",
    "Messages whose latency changed after it was observed (it is not subtracted)",
    ("account", "api", "channel"),
)
EVENTS = Metric(
    "events",
    "counter",
    "Input records by topic and what they brought: new, repeat or quarantined",
    ("input", "result"),
)

CATALOGUE: tuple[Metric, ...] = (MESSAGES, COST, CARRIER_LATENCY, LATENCY_CORRECTIONS, EVENTS)


def withdrawn(name: str) -> str:
    return f"{name}_withdrawn"
