"""`verify`: everything is equal, and of one record lost, doubled or altered at any stage it is not.

All faults of a kind are planted in one run, each on a message of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from verifying import played

from sendtrace.runtime.settings import Settings
from sendtrace.verify.found import Difference, Kept, Key, Report, last_of
from sendtrace.verify.run import slack_us
from sinks.rows import Row

from fakes.tampering import Fault, Kind


def swapped(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda value: value.replace(old, new, 1)


DELIVERED = swapped(b'"outcome":"delivered"', b'"outcome":"rejected"')


def faults(kind: Kind) -> list[Fault]:
    """One for each topic."""
    return [
        Fault("sends", kind, swapped(b'"refused":true', b'"refused":false'), once=True),
        Fault("statuses", kind, swapped(b"delivered", b"submitted"), once=True),
        Fault("receipts", kind, swapped(b"delivered", b"accepted"), once=True),
        Fault("inbound", kind, swapped(b"msisdn", b"nobody"), once=True, nth=2),
        Fault("lifecycles", kind, DELIVERED),
        Fault("parts", kind, swapped(b'"kind":"parts"', b'"kind":"failover"')),
        Fault("rollups", kind, DELIVERED),
        Fault("totals", kind, swapped(b'"messages":', b'"messages":1')),
    ]


async def test_everything_is_equal(tmp_path: Path) -> None:
    run = await played(tmp_path, 120, 2.5, "everything")
    report = run.report()
    assert report.differences == []
    assert report.notes == []
    assert len(run.book.messages) > 250
    assert report.compared["messages"] == len(run.book.messages)
    assert report.compared["rows of messages"] == len(run.book.messages)
    assert report.compared["rollups"] == len(run.book.rollups) > 20
    assert report.compared["inbound messages"] == len(run.book.inbound)
    assert report.compared["rows of inbound"] == len(run.book.inbound) > 5
    assert report.compared["series of /metrics"] > 100


async def test_label_sets_at_their_bound_are_no_difference(tmp_path: Path) -> None:
    run = await played(tmp_path, 120, 1, "everything", label_set_limit=30)
    report = run.report()
    assert report.differences == []
    assert report.notes == [
        "label sets reached their bound: only sums over all labels are compared"
    ]
    of_other = {series: n for series, n in run.found.figures.items() if series[0] == "events"}
    assert any(dict(labels)["input"] == "other" for _, labels in of_other)
    run.found.figures = {**run.found.figures, next(iter(of_other)): 10_000}
    assert [each.where for each in run.report().differences] == ["metrics"]


@pytest.mark.parametrize("kind", ["drop", "double", "alter"])
async def test_one_record_at_any_stage_is_found(kind: Kind, tmp_path: Path) -> None:
    planted = faults(kind)
    run = await played(tmp_path, 120, 2.5, "everything", planted)
    report = run.report()
    assert {fault.topic for fault in planted if fault.struck} == {f.topic for f in planted}
    assert {f.topic: told(f, report) for f in planted if not told(f, report)} == {}


@pytest.mark.parametrize("kind", ["drop", "alter"])
async def test_one_row_of_the_warehouse_is_found(kind: Kind, tmp_path: Path) -> None:
    run = await played(tmp_path, 150, 2, "quiet-day", row_fault=kind)
    assert {(d.where, d.key) for d in run.report().differences} == {("warehouse", run.struck_row)}


async def test_what_is_kept_where_nobody_looks_is_found(tmp_path: Path) -> None:
    """By bytes and numbers all is there: in quarantine, and in records that make no row."""
    run = await played(tmp_path, 150, 2, "quiet-day")
    topics, tables = run.found.topics, run.found.tables
    put_aside = topics | {"quarantine": topics["inbound"], "inbound": []}
    run.found = replace(run.found, topics=put_aside, tables=tables | {"inbound": {}})
    missing = {(d.where, d.key) for d in run.report().differences}
    assert missing == {("inbound", message_id) for message_id in run.book.inbound} != set()

    for topic, table in (("lifecycles", "messages"), ("rollups", "rollups")):
        newer = last_of(topics[topic]).popitem()[1]
        records = [newer_format(kept) if kept is newer else kept for kept in topics[topic]]
        key = (newer.key or b"").decode()
        left = {name: without(key, rows) for name, rows in tables.items()}
        for there in (tables, tables | {table: left[table]}, left):
            run.found = replace(run.found, topics=topics | {topic: records}, tables=there)
            assert [
                (d.where, d.key) for d in run.report().differences if "newer format" in d.sentence
            ] == [("warehouse", key)]


def test_both_standings_are_right_for_as_long_as_the_joiner_waits() -> None:
    longer = Settings(grace_seconds=600.0, time_scale=10.0)
    assert slack_us(longer) - slack_us(Settings(grace_seconds=0.0)) == 60_000_000


def newer_format(kept: Kept) -> Kept:
    return structs.replace(kept, value=b'{"v":99,' + (kept.value or b"").removeprefix(b"{"))


def without(key: str, rows: Mapping[Key, Row]) -> dict[Key, Row]:
    return {k: row for k, row in rows.items() if k[0] != key}


def told(fault: Fault, report: Report) -> list[Difference]:
    """What the report says of it: by its key, its request, or by labels in the figures."""
    if fault.topic == "totals":
        return [each for each in report.differences if each.where in ("metrics", "totals")]
    key = (fault.key or b"").decode()
    return [each for each in report.differences if each.key in (key, fault.ce_id)]
