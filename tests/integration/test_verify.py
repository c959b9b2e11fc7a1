"""`verify`: everything is equal, and of one record lost, doubled or altered at any stage it is not.

All faults of a kind are planted in one run, each on a message of its own. tests/all plays the same
on real Kafka and PostgreSQL.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from processors.join.contribution import Totals
from schemas.metrics import LATENCIES
from schemas.totals import LabelSet
from sendtrace import forget as forgetting
from sendtrace.runtime.kafka import Clients
from sendtrace.runtime.settings import Settings
from sendtrace.simulator.ledger import Book
from sendtrace.verify.found import Kept, Key, last_of
from sendtrace.verify.run import slack_us
from sinks.rows import INBOUND, Row

from fakes.tampering import Fault, Kind
from verifying import (
    assert_equal,
    assert_found,
    assert_row_found,
    faults,
    in_memory,
    played,
    swapped,
)


async def test_everything_is_equal(tmp_path: Path) -> None:
    assert_equal(await played(in_memory(tmp_path), tmp_path, 120, 2.5, "everything"))


async def test_label_sets_at_their_bound_are_no_difference(tmp_path: Path) -> None:
    run = await played(in_memory(tmp_path), tmp_path, 120, 1, "everything", label_set_limit=30)
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
    run = await played(in_memory(tmp_path), tmp_path, 120, 2.5, "everything", planted)
    assert_found(run, planted)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"error_title":"', b'"error_title":"not '), (b'"balance_units":', b'"balance_units":1')],
    ids=["fact", "send"],
)
async def test_what_decides_nothing_is_found_when_it_is_altered(
    old: bytes, new: bytes, tmp_path: Path
) -> None:
    """What the joiner got wrong, and the row took over: the outcome and the figures agree."""
    planted = Fault("lifecycles", "alter", swapped(old, new))
    run = await played(in_memory(tmp_path), tmp_path, 120, 2, "everything", [planted])
    assert_found(run, [planted])


@pytest.mark.parametrize("kind", ["drop", "alter"])
async def test_one_record_of_latencies_is_found(kind: Kind, tmp_path: Path) -> None:
    planted = [Fault("totals", kind, swapped(b'"buckets":[', b'"buckets":[1'))]
    run = await played(in_memory(tmp_path), tmp_path, 150, 2, "quiet-day", planted)
    assert_found(run, planted)
    lines = {d.sentence.split()[0] for d in run.report().differences}
    assert any(line.endswith("_count") for line in lines)


@pytest.mark.parametrize("times", [0, 2])
async def test_a_latency_observed_never_or_twice_is_found(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of each stage. A fault of the joiner, whose books are in order: nothing else tells."""
    struck: dict[int, LabelSet] = {}
    observe = Totals._add_observation

    def faulty(self: Totals, labels: LabelSet, stage: int, took_ms: int, number: int) -> None:
        if stage not in struck:
            struck[stage] = labels
            number = number - 1 + times
        observe(self, labels, stage, took_ms, number)

    monkeypatch.setattr(Totals, "_add_observation", faulty)
    run = await played(in_memory(tmp_path), tmp_path, 150, 2, "everything")
    assert {(d.key, d.sentence.partition(" is ")[0]) for d in run.report().differences} == {
        (", ".join(f"{name}={value}" for name, value in labels), f"{LATENCIES[stage].name}_count")
        for stage, labels in struck.items()
    }
    assert len(struck) == len(LATENCIES)


async def test_a_latency_in_another_bucket_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many, and as long together: one bound too high and another too low."""
    run = await played(in_memory(tmp_path), tmp_path, 150, 2, "quiet-day")
    figures = run.found.figures
    counted = {
        series: number
        for series, number in figures.items()
        if series[0] == "carrier_latency_seconds_bucket" and dict(series[1])["le"] == "60.0"
    }
    for line in counted:
        run.found = replace(run.found, figures={**figures, line: figures[line] + 1})
        (told,) = run.report().differences
        assert "carrier_latency_bucket up to 60.0 s is" in told.sentence
    assert counted


async def test_where_compaction_took_the_history_numbers_are_compared(tmp_path: Path) -> None:
    run = await played(in_memory(tmp_path), tmp_path, 150, 2, "everything")
    topics, figures = run.found.topics, run.found.figures
    left = set(map(id, last_of(topics["lifecycles"]).values()))
    compacted = [kept for kept in topics["lifecycles"] if id(kept) in left]
    assert len(compacted) < len(topics["lifecycles"])
    run.found = replace(run.found, topics=topics | {"lifecycles": compacted})
    report = run.report()
    assert report.differences == []
    assert ["holes" in note for note in report.notes] == [True]

    line = next(series for series in figures if series[0] == "carrier_latency_seconds_count")
    for number in (-1_000, 1_000):
        run.found = replace(run.found, figures={**figures, line: figures[line] + number})
        (told,) = run.report().differences
        assert (told.where, told.key) == ("metrics", "all labels")
        assert told.sentence.startswith("carrier_latency_count is ")


@pytest.mark.parametrize("kind", ["drop", "alter"])
async def test_one_row_of_the_warehouse_is_found(kind: Kind, tmp_path: Path) -> None:
    run = await played(in_memory(tmp_path), tmp_path, 150, 2, "quiet-day", row_fault=kind)
    assert_row_found(run)


async def test_what_is_kept_where_nobody_looks_is_found(tmp_path: Path) -> None:
    """By bytes and numbers all is there: in quarantine, and in records that make no row."""
    run = await played(in_memory(tmp_path), tmp_path, 150, 2, "quiet-day")
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


async def test_what_was_erased_is_excused_and_nothing_else(tmp_path: Path) -> None:
    """Whole rollups, some of their messages, messages alone, and one that nobody sent."""

    async def erase(clients: Clients, settings: Settings, book: Book) -> None:
        whole, *others = book.rollups.values()
        in_rollups = {one for rollup in book.rollups.values() for one in rollup.message_ids}
        alone = [one for one in book.messages if one not in in_rollups]
        ids = [*whole.message_ids, *(each.message_ids[0] for each in others), *alone[::5], "nobody"]
        erased.update(ids)
        await forgetting._erase(clients, settings, ids, lambda: time.time_ns() // 1000)

    erased: set[str] = set()
    run = await played(in_memory(tmp_path), tmp_path, 150, 2, "everything", afterwards=erase)
    report = run.report()
    assert report.differences == []
    assert [f"{len(erased)} messages" in note for note in report.notes] == [True]
    assert report.compared["messages erased"] == len(erased) - 1 > 50
    assert report.compared["messages"] == len(run.book.messages) - len(erased) + 1
    left = [each for each in run.book.rollups.values() if not erased.issuperset(each.message_ids)]
    assert report.compared["rollups"] == len(left) > 20

    topics = run.found.topics
    one = next(key for key, kept in last_of(topics["lifecycles"]).items() if key in erased)
    kept = next(kept for kept in topics["lifecycles"] if kept.key == one.encode())
    for there, sentence in (
        ([*topics["lifecycles"], kept], "it was to be erased, and is not"),
        ([each for each in topics["lifecycles"] if each.key != kept.key], "is not there to stay"),
    ):
        run.found = replace(run.found, topics=topics | {"lifecycles": there})
        assert [d.key for d in run.report().differences if sentence in d.sentence] == [one]
    asked = [each for each in topics["sends"] if each.key != kept.key]
    run.found = replace(run.found, topics=topics | {"sends": asked})
    assert ("lifecycles", one, "it is erased") in {
        (d.where, d.key, d.sentence) for d in run.report().differences
    }


async def test_an_inbound_message_that_was_forgotten_has_no_row(tmp_path: Path) -> None:
    run = await played(in_memory(tmp_path), tmp_path, 150, 2, "quiet-day")
    one = next(iter(run.book.inbound))
    rows = run.found.tables["inbound"]
    run.found = replace(run.found, inbound_forgotten=frozenset({one}))
    assert {d.key for d in run.report().differences} == {one}
    left = run.found.tables | {"inbound": without(one, rows)}
    run.found = replace(run.found, tables=left)
    assert run.report().differences == []
    run.found = replace(run.found, inbound_forgotten=frozenset())
    assert {d.key for d in run.report().differences} == {one}


async def test_an_inbound_record_of_no_use_must_be_in_quarantine(tmp_path: Path) -> None:
    """Anyone may write one; the loader keeps it there with where it came from."""
    run = await played(in_memory(tmp_path), tmp_path, 150, 2, "quiet-day")
    topics = run.found.topics
    one, *others = topics["inbound"]
    junk = structs.replace(one, value=b"junk")
    origin = ("st_origin", f"inbound-{one.partition}-{one.offset}".encode())
    copy = structs.replace(junk, headers=[*one.headers, origin])
    for quarantined, is_said in (([], True), ([copy], False)):
        put_aside = [*topics["quarantine"], *quarantined]
        there = topics | {"inbound": [junk, *others], "quarantine": put_aside}
        run.found = replace(run.found, topics=there)
        said = [d for d in run.report().differences if "no row can be made of it" in d.sentence]
        assert bool(said) is is_said


async def test_one_column_of_an_inbound_row_is_found(tmp_path: Path) -> None:
    run = await played(in_memory(tmp_path), tmp_path, 150, 2, "quiet-day")
    tables = run.found.tables
    for number, column in enumerate(INBOUND.names):
        if column in (*INBOUND.key, "topic_epoch"):
            continue
        key, row = list(tables["inbound"].items())[number % len(tables["inbound"])]
        altered = {**tables["inbound"], key: (*row[:number], "altered", *row[number + 1 :])}
        run.found = replace(run.found, tables={**tables, "inbound": altered})
        assert {d.key for d in run.report().differences} == {key[0]}, column
    run.found = replace(run.found, tables=tables)
    assert run.report().is_equal


async def test_a_key_of_sends_may_be_any_bytes(tmp_path: Path) -> None:
    run = await played(in_memory(tmp_path), tmp_path, 150, 2, "quiet-day")
    topics = run.found.topics
    foreign = structs.replace(topics["sends"][0], key=b"\xff")
    run.found = replace(run.found, topics=topics | {"sends": [*topics["sends"], foreign]})
    assert ("inputs", "\ufffd") in {(d.where, d.key) for d in run.report().differences}


def test_both_standings_are_right_for_as_long_as_the_joiner_waits() -> None:
    longer = Settings(grace_seconds=600.0, time_scale=10.0)
    assert slack_us(longer) - slack_us(Settings(grace_seconds=0.0)) == 60_000_000


def newer_format(kept: Kept) -> Kept:
    return structs.replace(kept, value=b'{"v":99,' + (kept.value or b"").removeprefix(b"{"))


def without(key: str, rows: Mapping[Key, Row]) -> dict[Key, Row]:
    return {k: row for k, row in rows.items() if k[0] != key}
