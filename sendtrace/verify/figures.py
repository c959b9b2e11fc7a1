"""`/metrics` against the lifecycles and rollups that it is the sum of. Pure.

Entered minus withdrawn is the truth: for each label set it must be the sum of what every lifecycle
(and rollup) stands for. Where a task's label sets reached their bound only the sums over all labels
can be held against each other; where messages were forgotten, their rows take their place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from processors.join.contribution import OTHER, contribution
from processors.rollup.contribution import contribution as rollup_contribution
from schemas.metrics import CATALOGUE, EVENTS, MESSAGES, Metric, withdrawn
from schemas.topics import PARTS, RECEIPTS, SENDS, STATUSES
from sendtrace.verify.found import Difference, Found, Series
from sinks import rows

MONEY_UNITS = 100_000_000
# What a name on the page does to which metric.
_STANDING = {
    name: (metric, sign)
    for metric in CATALOGUE
    if metric.withdrawable
    for name, sign in ((metric.name, 1), (withdrawn(metric.name), -1))
}


def differences(found: Found, compared: Counter[str], notes: list[str]) -> Iterator[Difference]:
    truth = _truth(found)
    if found.forgotten:
        notes.append(
            f"{len(found.forgotten)} messages are forgotten: figures are held against the rows"
        )
        yield from _against_rows(found, truth)
        return
    expected = _expected(found)
    if is_bound_reached(found):
        notes.append("label sets reached their bound: only sums over all labels are compared")
        expected, truth = _summed(expected), _summed(truth)
    compared["series of /metrics"] = len(expected)
    for series in sorted(expected.keys() | truth.keys()):
        if expected[series] != truth[series]:
            yield difference(series, expected[series], truth[series])


def events(found: Found, compared: Counter[str]) -> Iterator[Difference]:
    """Each input record was counted once."""
    expected: Counter[Series] = Counter()
    for topic in (SENDS, STATUSES, RECEIPTS, PARTS):
        expected[EVENTS.name, (("input", topic),)] = len(found.topics[topic])
    counted: Counter[Series] = Counter()
    for (name, labels), value in found.figures.items():
        if name == EVENTS.name:
            counted[name, (("input", dict(labels)["input"]),)] += round(value)
    compared["input records"] += expected.total()
    if is_bound_reached(found):
        expected, counted = _summed(expected), _summed(counted)
    for series in sorted(expected.keys() | counted.keys()):
        if expected[series] != counted[series]:
            yield difference(series, expected[series], counted[series])


def is_bound_reached(found: Found) -> bool:
    """Beyond the bound every label says so; by itself one may be called like that: a sender."""
    return any(labels and all(value == OTHER for _, value in labels) for _, labels in found.figures)


def _expected(found: Found) -> Counter[Series]:
    standing = [
        contribution(each.summary).amounts
        for each in found.lifecycles.values()
        if not each.fragment
    ]
    standing += [
        rollup_contribution(each).amounts for each in found.rollups.values() if not each.fragment
    ]
    expected: Counter[Series] = Counter()
    for amounts in standing:
        for (labels, name), amount in amounts.items():
            expected[name, labels] += amount
    return expected


def _truth(found: Found) -> Counter[Series]:
    """In whole units, as the totals hold them."""
    truth: Counter[Series] = Counter()
    for (name, labels), value in found.figures.items():
        if name in _STANDING:
            metric, sign = _STANDING[name]
            truth[metric.name, labels] += sign * _units(metric, value)
    return Counter({series: value for series, value in truth.items() if value})


def _units(metric: Metric, value: float) -> int:
    return round(value * MONEY_UNITS) if metric.unit == "money" else round(value)


def _against_rows(found: Found, truth: Counter[Series]) -> Iterator[Difference]:
    at = [rows.MESSAGES.names.index(name) for name in MESSAGES.labels]
    expected: Counter[Series] = Counter()
    for row in found.tables[rows.MESSAGES.name].values():
        values = [str(row[index] or "none") for index in at]
        expected[MESSAGES.name, tuple(zip(MESSAGES.labels, values, strict=True))] += 1
    for series in sorted(expected.keys() | {s for s in truth if s[0] == MESSAGES.name}):
        if expected[series] != truth[series]:
            yield difference(series, expected[series], truth[series])


def _summed(values: Counter[Series]) -> Counter[Series]:
    summed: Counter[Series] = Counter()
    for (name, _), value in values.items():
        summed[name, ()] += value
    return summed


def difference(series: Series, expected: int, found: int) -> Difference:
    name, labels = series
    shown = ", ".join(f"{label}={value}" for label, value in labels)
    return Difference("metrics", shown or "all labels", f"{name} is {found}, not {expected}")
