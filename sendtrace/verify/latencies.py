"""The latency histograms of `/metrics` against all that the lifecycles ever were. Pure.

A latency is observed in the commit in which it becomes known, with the labels of then. Later the
labels may be others, and the latency corrected (which is counted) or out of the question again;
the observation stays. So a histogram is no sum over lifecycles as they stand, but over their
history, which is `lifecycles` from its beginning: with it each bucket, count and sum, and each
correction, can be told for every label set.

Nothing of the join's code is used. Where compaction took some of the history, only how many were
observed can be asked, over all labels: at least those that have the latency, at most those that
may ever have had it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from schemas.lifecycle import Lifecycle, Summary
from schemas.metrics import LATENCIES, LATENCY_CORRECTIONS, Metric
from schemas.topics import LIFECYCLES
from sendtrace.verify.figures import difference, is_bound_reached
from sendtrace.verify.found import Difference, Found, Series

_Known = Mapping[str, int]  # by metric
# Of both ends; a client's clock takes the place of ours.
_CLOCKS = {
    "carrier_latency": "vonage", "deliver_latency": "mixed", "accept_latency": "ours",
    "read_latency": "vonage", "callback_latency": "mixed", "ingest_lag": "mixed",
}  # fmt: skip
_FROM_THE_SEND = ("deliver_latency", "accept_latency")
# Vonage held the last word back and does not say for how long.
_UNTOLD_IF_AGGREGATED = ("carrier_latency", "deliver_latency")


@dataclass
class _Observed:
    took_ms: dict[Series, list[int]] = field(default_factory=lambda: defaultdict(list))
    corrections: Counter[Series] = field(default_factory=Counter)


def differences(found: Found, compared: Counter[str], notes: list[str]) -> Iterator[Difference]:
    observed = _observed(found)
    compared["latencies observed"] = sum(map(len, observed.took_ms.values()))
    told = list(_exactly(found, observed))
    if told and not _is_whole(found):
        notes.append(
            "`lifecycles` has holes (compaction, aborted transactions) and latencies were observed "
            "that it does not show any more: only their numbers are compared, over all labels"
        )
        told = list(_by_number(found))
    yield from told


def _observed(found: Found) -> _Observed:
    observed = _Observed()
    last: dict[str, _Known] = {}
    for lifecycle in found.history:
        message_id, summary = lifecycle.message_id, lifecycle.summary
        known = {} if summary is None or lifecycle.fragment else _known(summary)
        before = last.get(message_id, {})
        last[message_id] = known
        if summary is None:
            continue
        for name, took_ms in known.items():
            if name not in before:
                observed.took_ms[name, _labels(name, summary)].append(took_ms)
            elif before[name] != took_ms:
                observed.corrections[LATENCY_CORRECTIONS.name, _corrected(name, summary)] += 1
    return observed


def _known(summary: Summary) -> _Known:
    is_aggregated = "aggregated" in summary.flags
    return {
        metric.name: took_ms
        for metric in LATENCIES
        if (took_ms := _field(metric.name, summary)) is not None
        and not (is_aggregated and metric.name in _UNTOLD_IF_AGGREGATED)
    }


def _field(name: str, summary: Summary) -> int | None:
    took_ms: int | None = getattr(summary, f"{name}_ms")
    return took_ms


def _labels(name: str, summary: Summary) -> tuple[tuple[str, str], ...]:
    is_clients = name in _FROM_THE_SEND and summary.send_clock == "client"
    clock = "client" if is_clients else _CLOCKS[name]
    return tuple(sorted({**_whose(summary), "clock": clock}.items()))


def _corrected(name: str, summary: Summary) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({**_whose(summary), "stage": name}.items()))


def _whose(summary: Summary) -> dict[str, str]:
    names = ("account", "api", "channel", "traffic")
    return {name: getattr(summary, name) or "none" for name in names}


# --- with the whole history ---


def _exactly(found: Found, observed: _Observed) -> Iterator[Difference]:
    is_summed = is_bound_reached(found)
    shown = _shown(found, is_summed)
    for metric in LATENCIES:
        expected: dict[Series, list[int]] = defaultdict(list)
        for (name, labels), took_ms in observed.took_ms.items():
            if name == metric.name:
                expected[name, () if is_summed else labels] += took_ms
        for series in sorted(expected.keys() | {one for one in shown if one[0] == metric.name}):
            yield from _histogram(series, expected.get(series, []), shown.get(series, {}))
    corrected: Counter[Series] = Counter()
    for (name, labels), number in observed.corrections.items():
        corrected[name, () if is_summed else labels] += number
    counted: Counter[Series] = Counter()
    for (name, labels), value in found.figures.items():
        if name == LATENCY_CORRECTIONS.name:
            counted[name, () if is_summed else labels] += round(value)
    for series in sorted(corrected.keys() | counted.keys()):
        if corrected[series] != counted[series]:
            yield difference(series, corrected[series], counted[series])


def _shown(found: Found, is_summed: bool) -> dict[Series, Counter[str]]:
    """The lines of each histogram: `_count`, `_sum` in milliseconds, and buckets by their `le`."""
    lines = {
        f"{metric.name}_seconds{suffix}": (metric.name, suffix)
        for metric in LATENCIES
        for suffix in ("_count", "_sum", "_bucket")
    }
    shown: dict[Series, Counter[str]] = defaultdict(Counter)
    for (line, labels), value in found.figures.items():
        if line in lines:
            name, suffix = lines[line]
            others = {label: of for label, of in labels if label != "le"}
            series = name, () if is_summed else tuple(sorted(others.items()))
            at = dict(labels)["le"] if suffix == "_bucket" else suffix
            shown[series][at] += round(value * 1000) if suffix == "_sum" else round(value)
    return shown


def _histogram(
    series: Series, took_ms: list[int], shown: Mapping[str, int]
) -> Iterator[Difference]:
    """The first of its lines that differs: with a count all buckets above it do."""
    name, labels = series
    wanted = {"_count": len(took_ms), "_sum": sum(took_ms)}
    for line in shown.keys() - wanted.keys():
        wanted[line] = sum(ms <= float(line) * 1000 for ms in took_ms)
    for line in sorted(wanted, key=lambda line: (line not in ("_count", "_sum"), line)):
        if shown.get(line, 0) != wanted[line]:
            of = line if line.startswith("_") else f"_bucket up to {line} s"
            yield difference((name + of, labels), wanted[line], shown.get(line, 0))
            return


# --- with what compaction left of it ---


def _is_whole(found: Found) -> bool:
    """Whether no offset is missing but those of the marks that end transactions."""
    following: Counter[int] = Counter()
    for kept in found.topics[LIFECYCLES]:
        if kept.offset > following[kept.partition]:
            return False
        following[kept.partition] = kept.offset + 2
    return True


def _by_number(found: Found) -> Iterator[Difference]:
    shown: Counter[str] = Counter()
    for (line, _), value in found.figures.items():
        shown[line] += round(value)
    whole = [each for each in found.lifecycles.values() if not each.fragment]
    gone = len(found.forgotten) + len(found.lifecycles) - len(whole)
    for metric in LATENCIES:
        least = sum(metric.name in _known(s) for each in whole if (s := each.summary))
        most = gone + sum(_may_have_been_known(metric, each) for each in whole)
        seen = shown[f"{metric.name}_seconds_count"]
        if not least <= seen <= most:
            sentence = f"{metric.name}_count is {seen}, not {least} to {most}"
            yield Difference("metrics", "all labels", sentence)


def _may_have_been_known(metric: Metric, lifecycle: Lifecycle) -> bool:
    """Facts stay, so their latencies do; but for a mark that they get, or whose they turn out to
    be."""
    summary = lifecycle.summary
    if summary is None or "foreign_account" in summary.flags:
        return True
    name = "ingest_lag" if metric.name == "callback_latency" else metric.name
    return _field(name, summary) is not None
