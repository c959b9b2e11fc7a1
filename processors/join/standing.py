"""The counters that a message stands in, with their labels: one function per group of labels.

A group is all that follows from the same few fields. There are few different ones among many
messages, so each group is worked out once and remembered (the functions are pure): what is left per
message is a look-up. Senders and networks are groups of their own, because they are many.

Source: docs/rules.md 7; the catalogue is ``schemas/metrics.py``.
"""

from __future__ import annotations

from functools import lru_cache

from schemas import metrics
from schemas.lifecycle import Outcome
from schemas.metrics import Metric
from schemas.totals import LabelSet

NONE = "none"  # the value of a label that is not known

Amounts = dict[tuple[LabelSet, str], int]  # (label set, metric) to how much

# Label values of one task: thousands, of some hundred bytes each.
_REMEMBERED = 8_192
_SMS_APIS = frozenset({"sms", "alerts", "sms_or_alerts"})


class Standing:
    """What a group of fields counts for. Equal only to itself, so that a pair is a cheap key."""

    __slots__ = ("amounts",)

    def __init__(self, amounts: Amounts) -> None:
        self.amounts = amounts


NOWHERE = Standing({})


def labels_of(metric: Metric, *values: str | None) -> LabelSet:
    """Labels stand sorted by name in the catalogue."""
    return tuple([(name, value or NONE) for name, value in zip(metric.labels, values, strict=True)])


@lru_cache(_REMEMBERED)
def by_outcome(
    account: str | None,
    api: str | None,
    channel: str | None,
    country: str | None,
    traffic: str,
    outcome: Outcome,
    code: str | None,
    category: str | None,
    flags: tuple[str, ...],
    status_last: str | None,
) -> Standing:
    """What changes with the outcome."""
    amounts: Amounts = {}
    messages = labels_of(metrics.MESSAGES, account, api, channel, country, outcome, traffic)
    amounts[messages, metrics.MESSAGES.name] = 1
    if category is not None:
        codes = labels_of(metrics.CODES, account, api, category, channel, code, outcome, traffic)
        amounts[codes, metrics.CODES.name] = 1
    for flag in flags:
        flagged = labels_of(metrics.FLAGGED, account, api, channel, flag, traffic)
        amounts[flagged, metrics.FLAGGED.name] = 1
    if outcome == "unknown" or "unknown_code" in flags:
        never_seen = labels_of(metrics.UNKNOWN_CODES, api, code, status_last)
        amounts[never_seen, metrics.UNKNOWN_CODES.name] = 1
    return Standing(amounts)


@lru_cache(_REMEMBERED)
def by_send(
    account: str | None,
    api: str | None,
    channel: str | None,
    traffic: str,
    answer: str | None,
    answer_status: str | None,
    has_send: bool,
    is_first_part: bool,
    segments: int | None,
) -> Standing:
    """What the send tells, or that there is none."""
    amounts: Amounts = {}
    whose = labels_of(metrics.WITHOUT_SEND, account, api, channel, traffic)
    if has_send:
        sends = labels_of(metrics.SENDS, account, answer, api, channel, answer_status, traffic)
        amounts[sends, metrics.SENDS.name] = 1
    else:
        amounts[whose, metrics.WITHOUT_SEND.name] = 1
    if segments is None and api in _SMS_APIS:
        segments = 1  # each part is a message of its own
    if segments is not None:
        amounts[whose, metrics.SEGMENTS.name] = segments
        if is_first_part:
            amounts[whose, metrics.SEGMENTED_SENDS.name] = 1
    return Standing(amounts)


@lru_cache(_REMEMBERED)
def by_cost(
    account: str | None,
    api: str | None,
    channel: str | None,
    country: str | None,
    traffic: str,
    cost_units: int,
    currency: str | None,
    cost_source: str | None,
    estimate_units: int | None,
) -> Standing:
    whose = account, api, channel
    cost = labels_of(metrics.COST, *whose, cost_source, country, currency, traffic)
    amounts: Amounts = {(cost, metrics.COST.name): cost_units}
    if cost_source == "event" and estimate_units is not None:
        event = labels_of(metrics.COST_COMPARED, *whose, "event", currency, traffic)
        estimate = labels_of(metrics.COST_COMPARED, *whose, "estimate", currency, traffic)
        amounts[event, metrics.COST_COMPARED.name] = cost_units
        amounts[estimate, metrics.COST_COMPARED.name] = estimate_units
    return Standing(amounts)


@lru_cache(_REMEMBERED)
def by_network(
    channel: str | None, network: str | None, outcome: Outcome, traffic: str
) -> Standing:
    labels = labels_of(metrics.NETWORK_MESSAGES, channel, network, outcome, traffic)
    return Standing({(labels, metrics.NETWORK_MESSAGES.name): 1})


@lru_cache(_REMEMBERED)
def by_sender(channel: str | None, outcome: Outcome, sender: str | None, traffic: str) -> Standing:
    labels = labels_of(metrics.SENDER_MESSAGES, channel, outcome, sender, traffic)
    return Standing({(labels, metrics.SENDER_MESSAGES.name): 1})


class LatencyLabels:
    """Label sets of the latencies of a message, in the order of the catalogue."""

    __slots__ = ("corrected", "observed")

    def __init__(self, observed: tuple[LabelSet, ...], corrected: tuple[LabelSet, ...]) -> None:
        self.observed = observed
        self.corrected = corrected


@lru_cache(_REMEMBERED)
def of_latency(
    account: str | None, api: str | None, channel: str | None, traffic: str, is_client: bool
) -> LatencyLabels:
    """The client's clock stays out of what is on ours: another value of the label `clock`."""
    sending = "client" if is_client else "ours"
    deliver = "client" if is_client else "mixed"
    clocks = ("vonage", deliver, sending, "vonage", "mixed", "mixed")
    timed, corrections = metrics.LATENCIES, metrics.LATENCY_CORRECTIONS
    return LatencyLabels(
        tuple(
            [
                labels_of(metric, account, api, channel, clock, traffic)
                for metric, clock in zip(timed, clocks, strict=True)
            ]
        ),
        tuple(
            [
                labels_of(corrections, account, api, channel, metric.name, traffic)
                for metric in timed
            ]
        ),
    )
