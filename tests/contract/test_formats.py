"""What older versions stored is read for ever; what a newer one stored is refused, never guessed.

The fixtures are real bytes of each format (tools/formats.py). A test here that fails says that
sendtrace cannot be upgraded over its own data: mend the code, not the fixture.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rocksdict import Rdict

from processors import wiring
from processors.join.gaps import decode_gaps
from processors.joining import GAPS
from processors.store import Meta, RocksStore
from processors.wiring import JOINER, ROLLUP
from schemas import codec
from schemas.codec import TYPE_ERASE, TYPE_REVOKE, TYPE_SEND, decode_lifecycle, encode
from schemas.formats import NewerFormat
from schemas.lifecycle import Lifecycle
from schemas.metrics import MESSAGES
from schemas.pulses import decode_pulse
from schemas.topics import (
    LIFECYCLES,
    PARTS,
    PULSES,
    QUARANTINE,
    ROLLUPS,
    SENDS,
    TOTALS,
    totals_partition,
)
from schemas.totals import POSITIONS, parse_key, positions_key, state_key, totals_key
from schemas.vonage.reasons import Reason
from sinks.sums import Sums

import formats
from engine import Output, output, running_joiner, status_body
from fakes.cluster import MemoryCluster
from formats import Kept, Process

PROCESSES = {"joiner": JOINER, "rollup": ROLLUP}
Decode = Callable[[bytes], Any]

_OF_TOPIC: dict[str, Decode] = {
    LIFECYCLES: codec.decode_lifecycle,
    PARTS: codec.decode_part,
    ROLLUPS: codec.decode_rollup,
    PULSES: decode_pulse,
}
_OF_TYPE: dict[str | None, Decode] = {
    TYPE_SEND: codec.decode_send,
    TYPE_REVOKE: codec.decode_revoke,
    TYPE_ERASE: codec.decode_erase,
}
_OF_LABEL: dict[str, Decode] = {POSITIONS: codec.decode_positions, GAPS: decode_gaps}


def kind_of(record: Kept) -> tuple[str, Decode] | None:
    """What a record is, and its decoder. None: the bytes are Vonage's."""
    if record.topic == SENDS:
        assert record.ce_type is not None
        return record.ce_type, _OF_TYPE[record.ce_type]
    if record.topic == TOTALS:
        labels = parse_key((record.key or "").encode()).labels
        label = labels if isinstance(labels, str) else TOTALS
        return label, _OF_LABEL.get(label, codec.decode_totals)
    if record.topic in _OF_TOPIC:
        return record.topic, _OF_TOPIC[record.topic]
    return None


def stored(folder: Path) -> Iterator[tuple[str, Decode, bytes]]:
    for record in formats.records(folder):
        kind = kind_of(record)
        if kind and record.value is not None:
            yield (*kind, record.raw)


def said(value: object) -> object:
    """What JSON says, without what says nothing: an absent field and its default are one."""
    match value:
        case dict():
            told = {name: said(inner) for name, inner in value.items() if name != "v"}
            return {name: inner for name, inner in told.items() if inner not in (None, "", [], {})}
        case list():
            return [said(inner) for inner in value]
    return value


def loses(before: object, after: object) -> bool:
    """Whether anything that was said is said no more, or otherwise. New fields may come."""
    if isinstance(before, dict) and isinstance(after, dict):
        return any(name not in after or loses(said, after[name]) for name, said in before.items())
    if isinstance(before, list) and isinstance(after, list):
        # A tuple of a struct (`array_like`) grows at its end.
        return len(after) < len(before) or any(map(loses, before, after))
    return before != after


@pytest.fixture(params=formats.FOLDERS, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


# -- values --------------------------------------------------------------------------------------


def test_every_stored_value_says_the_same_when_written_again(folder: Path) -> None:
    kinds = set()
    for kind, decode, raw in stored(folder):
        kinds.add(kind)
        value = decode(raw)
        again = encode(value)
        assert decode(again) == value
        assert not loses(said(msgspec.json.decode(raw)), said(msgspec.json.decode(again))), raw
    assert kinds == {*_OF_TOPIC, *_OF_TYPE, *_OF_LABEL, TOTALS}


def test_a_value_that_loses_a_field_is_seen() -> None:
    """The comparison above is worth what it notices."""
    before = {"v": 1, "a": 1, "b": {"c": [1, 2]}, "empty": None}
    assert not loses(said(before), {"a": 1, "b": {"c": [1, 2, 3]}, "new": 5})
    for after in ({"a": 1}, {"a": 1, "b": {"c": [1]}}, {"a": 2, "b": {"c": [1, 2]}}):
        assert loses(said(before), after)


_CASES: dict[str, Callable[[Lifecycle], bool]] = {
    "open": lambda one: one.summary is not None and one.summary.is_open,
    "final": lambda one: one.summary is not None and one.summary.is_final,
    "with a send": lambda one: one.send is not None,
    "overdue": lambda one: bool(one.overdue),
    "to be revoked": lambda one: one.revoke_requested_at_us is not None,
    "truncated": lambda one: one.truncated,
    "fragment": lambda one: one.fragment,
    "erased": lambda one: one.erased and one.erased_at_us is not None,
}


@pytest.mark.parametrize("case", _CASES)
def test_lifecycles_of_every_case_are_among_them(folder: Path, case: str) -> None:
    found = [decode_lifecycle(r.raw) for r in formats.latest(folder, LIFECYCLES)]
    assert any(map(_CASES[case], found))


def test_the_other_values_have_what_makes_them_differ(folder: Path) -> None:
    values: dict[str, list[Any]] = {}
    for kind, decode, raw in stored(folder):
        values.setdefault(kind, []).append(decode(raw))
    assert any(gaps.closed for gaps in values[GAPS])
    assert any(len(rollup.items) == 2 for rollup in values[ROLLUPS])
    assert any(totals.histograms for totals in values[TOTALS])
    assert any(r.value is None for r in formats.records(folder) if r.topic == LIFECYCLES)


def test_the_exporter_adds_older_totals_up(folder: Path) -> None:
    sums = Sums()
    for record in formats.latest(folder, TOTALS):
        sums.apply((record.key or "").encode(), record.raw)
    assert sums.unknown_names == set()
    assert sum(sums.counters[MESSAGES.name].values()) >= 15


# -- state ---------------------------------------------------------------------------------------


@pytest.fixture
def at_its_time(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The clock as it was: a state that is a day old is dropped, whatever its format."""
    store = RocksStore(formats.state(folder, "joiner", tmp_path / "asked"))
    at_ms = store.meta.caught_up_at_ms
    store.close()
    monkeypatch.setattr(wiring, "now_ms", lambda: at_ms + 1000)


async def test_a_joiner_goes_on_from_older_state(
    folder: Path, at_its_time: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = formats.state(folder, "joiner", tmp_path)
    monkeypatch.setattr(RocksStore, "reset", _never)
    before = await output_of(formats.cluster(folder))
    found = await after_delivery(folder, path)
    assert_only_delivered(before, found)


async def test_a_rollup_goes_on_from_older_state(
    folder: Path, at_its_time: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second part is delivered: what is known of the first one is in the state alone."""
    path = formats.state(folder, "rollup", tmp_path)
    monkeypatch.setattr(RocksStore, "reset", _never)
    cluster = formats.cluster(folder)
    [part] = [
        part
        for record in formats.latest(folder, PARTS)
        if (part := codec.decode_part(record.raw)).message_id == "part-2"
    ]
    changed = msgspec.structs.replace(part, outcome="delivered", is_final=True, is_open=False)
    cluster.log.put(f"{formats.PREFIX}{PARTS}", 0, b"two-parts", encode(changed))
    async with process(cluster, "rollup", path):
        rollup = await until_rolled(cluster, "two-parts", "delivered")
    assert [item.part.outcome for item in rollup.items] == ["delivered", "delivered"]


async def test_state_of_an_unknown_format_is_dropped_and_rebuilt(
    folder: Path, at_its_time: None, tmp_path: Path
) -> None:
    path = formats.state(folder, "joiner", tmp_path)
    as_it_was = contents(path)
    database = Rdict(str(path))
    database[b"m"] = encode(Meta(v=99, cluster=formats.CLUSTER, next={"lifecycles": 1}))
    database[b"vforeign"] = b"of a form that nobody knows"
    database.close()
    store = RocksStore(path)
    assert (store.meta, store.value(b"foreign"), list(store.totals())) == (Meta(), None, [])
    store.close()
    before = await output_of(formats.cluster(folder))
    found = await after_delivery(folder, path)
    assert_only_delivered(before, found)
    rebuilt = contents(path)
    del rebuilt["open"], as_it_was["open"]
    assert {k: decode_lifecycle(v) for k, v in rebuilt.items()} == {
        k: decode_lifecycle(v) for k, v in as_it_was.items()
    }


def _never(store: RocksStore) -> None:
    raise AssertionError("the state was dropped")


def contents(path: Path) -> dict[str, bytes]:
    """The values in a store by key."""
    store = RocksStore(path)
    found = {key[1:].decode(): value for key, value in store._from(b"v")}
    store.close()
    return found


def process(cluster: MemoryCluster, name: Process, path: Path) -> Any:
    return running_joiner(
        cluster.settings, cluster.clients, lambda _: RocksStore(path),
        process=PROCESSES[name], cluster=formats.CLUSTER,
    )  # fmt: skip


async def after_delivery(folder: Path, path: Path) -> Output:
    """What subscribers see when today's joiner has heard that the open message is delivered."""
    cluster = formats.cluster(folder)
    cluster.log.put(f"{formats.PREFIX}statuses", 0, b"open", status_body("open", "delivered", 9))
    async with process(cluster, "joiner", path) as task, asyncio.timeout(60):
        while True:
            assert not task.done(), task.exception()
            if len((await output_of(cluster)).lifecycles["open"].facts) == 2:
                return await output_of(cluster)  # totals are read before lifecycles
            await asyncio.sleep(0.02)


async def output_of(cluster: MemoryCluster) -> Output:
    totals = totals_partition("join", 0, 1)
    assert totals == 0
    return await output(cluster.clients, cluster.settings)


def assert_only_delivered(before: Output, after: Output) -> None:
    """One event more, one message moved from pending to delivered, and nothing else."""
    assert after.events("new") == before.events("new") + 1
    assert after.events() == before.events() + 1
    changed = {key for key, value in after.values.items() if value != before.values[key]}
    assert changed == {"open"}
    told = after.lifecycles["open"].summary
    assert told is not None
    assert (told.outcome, after.truth(MESSAGES.name).total()) == (
        "delivered",
        before.truth(MESSAGES.name).total(),
    )


async def until_rolled(cluster: MemoryCluster, key: str, outcome: str) -> Any:
    async with asyncio.timeout(60):
        while True:
            written = cluster.log.records(f"{formats.PREFIX}{ROLLUPS}", 0)
            rollup = codec.decode_rollup({e.key: e.value for e in written}[key.encode()] or b"")
            if rollup.summary and rollup.summary.outcome == outcome:
                return rollup
            await asyncio.sleep(0.02)


# -- values of a newer version -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "ce_type"),
    [(SENDS, TYPE_SEND), (SENDS, TYPE_REVOKE), (SENDS, TYPE_ERASE), (PULSES, None), (PARTS, None)],
)
async def test_a_newer_input_goes_to_quarantine_whole(
    folder: Path, at_its_time: None, tmp_path: Path, topic: str, ce_type: str | None
) -> None:
    cluster = formats.cluster(folder)
    record = next(
        r for r in formats.records(folder)
        if r.topic == topic and (ce_type is None or r.ce_type == ce_type)
    )  # fmt: skip
    newer = encode({**msgspec.json.decode(record.raw), "v": 2, "of_tomorrow": True})
    headers = [("ce_type", ce_type.encode())] if ce_type else []
    cluster.log.put(formats.PREFIX + topic, 0, (record.key or "").encode(), newer, headers)
    name: Process = "rollup" if topic == PARTS else "joiner"
    already = len(cluster.log.records(formats.PREFIX + QUARANTINE, 0))
    async with process(cluster, name, tmp_path / "new"), asyncio.timeout(60):
        while len(found := cluster.log.records(formats.PREFIX + QUARANTINE, 0)) == already:
            await asyncio.sleep(0.01)
    assert found[-1].value == newer
    assert dict(found[-1].headers)["reason"] == Reason.NEWER_FORMAT.encode()


_NEWER_STATE: list[tuple[Process, str, bytes, bytes]] = [
    ("joiner", LIFECYCLES, b"open", b'{"v":2,"message_id":"open"}'),
    ("joiner", LIFECYCLES, b"open", b'{"v":2,"facts":"of another form"}'),
    ("joiner", TOTALS, totals_key("join", 0, ()), b'{"v":2}'),
    ("joiner", TOTALS, positions_key("join", 0), b'{"v":2}'),
    ("joiner", TOTALS, state_key("join", 0, GAPS), b'{"v":2}'),
    ("rollup", ROLLUPS, b"two-parts", b'{"v":2,"id":"two-parts"}'),
]


@pytest.mark.parametrize(("name", "topic", "key", "value"), _NEWER_STATE)
async def test_newer_state_stops_the_process_with_one_sentence(
    folder: Path, tmp_path: Path, name: Process, topic: str, key: bytes, value: bytes
) -> None:
    """Read as if it were known, it would be written back without what this version cannot hold."""
    cluster = formats.cluster(folder)
    cluster.log.put(formats.PREFIX + topic, 0, key, value)
    ends = {tp: len(entries) for tp, entries in cluster.log.entries.items()}
    with pytest.raises(NewerFormat, match=r"of format 2 was found, .* reads formats up to 1: run"):
        async with process(cluster, name, tmp_path / "new") as task:
            await asyncio.wait_for(asyncio.shield(task), 60)
    assert {tp: len(entries) for tp, entries in cluster.log.entries.items()} == ends


def test_what_is_no_value_of_any_format_is_what_msgspec_says() -> None:
    with pytest.raises(msgspec.ValidationError):
        codec.decode_lifecycle(b'{"v":1,"facts":5}')
    with pytest.raises(msgspec.DecodeError):
        codec.decode_lifecycle(b"no json")
