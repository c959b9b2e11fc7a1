"""The second stage, on an in-memory log and on real Kafka: from sends and receipts to rollups."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from processors.wiring import ROLLUP
from schemas.codec import TYPE_SEND, Headers, cloud_event, decode_rollup, encode
from schemas.events import Send
from schemas.metrics import ROLLUPS as ROLLUPS_METRIC
from schemas.rollup import Part, Rollup
from schemas.topics import PARTS, QUARANTINE, RECEIPTS, ROLLUPS, SENDS

from engine import ARRIVED_US, Output, output, produce, read_all, running_joiner
from fakes.cluster import Cluster

SENDS_WITH_PARTS = 6
POLL_SECONDS = 0.05
Records = list[tuple[str, bytes, Headers]]


def _headers(ce_type: str) -> Headers:
    return cloud_event(ce_type=ce_type, ce_id="0", source="/", at_us=ARRIVED_US, content_type=None)


def sends(recorded_as: str = "send") -> Records:
    """Two parts each."""
    return [
        (message_id, encode(send), _headers(TYPE_SEND))
        for n in range(SENDS_WITH_PARTS)
        for part in (1, 2)
        for message_id in [f"m-{n}-{part}"]
        for send in [
            Send(
                message_id=message_id, send_id=f"{recorded_as}-{n}", api="sms", account="acc",
                part=part, parts=2, arrived_at_us=ARRIVED_US,
            )
        ]
    ]  # fmt: skip


def receipts(part: int, status: str) -> Records:
    return [
        (
            f"m-{n}-{part}",
            f"messageId=m-{n}-{part}&status={status}&err-code=0&msisdn=447700900000"
            "&to=Acme&price=0.03&scts=2611220500&message-timestamp=2026-11-22+05%3A00%3A03".encode(),
            [*_headers("com.vonage.sms.receipt.v1"), ("content-type", FORM)],
        )
        for n in range(SENDS_WITH_PARTS)
    ]


FORM = b"application/x-www-form-urlencoded"


async def rollups(cluster: Cluster) -> dict[str, Rollup]:
    records = await read_all(cluster.clients, cluster.settings, ROLLUPS)
    return {key.decode(): decode_rollup(value) for key, value in dict(records).items() if value}


async def until_rolled(
    cluster: Cluster, holds: Callable[[dict[str, Rollup]], bool]
) -> dict[str, Rollup]:
    async with asyncio.timeout(60):
        while not holds(found := await rollups(cluster)):
            await asyncio.sleep(POLL_SECONDS)
    return found


def outcomes(found: dict[str, Rollup]) -> list[str]:
    return [rollup.summary.outcome for rollup in found.values() if rollup.summary]


async def put(cluster: Cluster, topic: str, records: Records) -> None:
    await produce(cluster.clients, cluster.settings, records, topic)


def counted(found: Output) -> Counter[str]:
    return Counter(
        {
            dict(labels)["outcome"]: number
            for labels, number in found.truth(ROLLUPS_METRIC.name).items()
        }
    )


async def test_parts_become_the_outcome_of_the_whole_and_move_on(cluster: Cluster) -> None:
    settings, clients = cluster.settings, cluster.clients
    await put(cluster, SENDS, sends())
    await put(cluster, RECEIPTS, receipts(1, "delivered"))
    async with (
        running_joiner(settings, clients, cluster.open_store),
        running_joiner(settings, clients, cluster.rollup_store, process=ROLLUP),
    ):
        # Open: the second part is not known to have arrived.
        await until_rolled(cluster, lambda found: outcomes(found) == ["pending"] * SENDS_WITH_PARTS)
        await put(cluster, RECEIPTS, receipts(2, "expired"))
        found = await until_rolled(
            cluster, lambda found: outcomes(found) == ["partial"] * SENDS_WITH_PARTS
        )
    assert sorted(found) == [f"send-{n}" for n in range(SENDS_WITH_PARTS)]
    for rollup in found.values():
        assert rollup.summary is not None
        assert rollup.summary.is_final
        assert (rollup.summary.known, rollup.summary.expected, rollup.summary.delivered) == (
            2,
            2,
            1,
        )
        assert rollup.summary.costs == (("EUR", 6_000_000),)
    assert counted(await output(clients, settings)) == Counter(partial=SENDS_WITH_PARTS)


async def test_a_rollup_restarted_without_its_disk_counts_nothing_twice(cluster: Cluster) -> None:
    settings, clients = cluster.settings, cluster.clients
    await put(cluster, SENDS, sends())
    await put(cluster, RECEIPTS, receipts(1, "delivered"))
    async with running_joiner(settings, clients, cluster.open_store):
        async with running_joiner(settings, clients, cluster.second_store, process=ROLLUP):
            await until_rolled(cluster, lambda found: len(found) == SENDS_WITH_PARTS)
        await put(cluster, RECEIPTS, receipts(2, "delivered"))
        async with running_joiner(settings, clients, cluster.rollup_store, process=ROLLUP):
            await until_rolled(
                cluster, lambda found: outcomes(found) == ["delivered"] * SENDS_WITH_PARTS
            )
    assert counted(await output(clients, settings)) == Counter(delivered=SENDS_WITH_PARTS)


async def test_a_send_that_was_recorded_twice_is_one_rollup(cluster: Cluster) -> None:
    """Under two send ids: the first by bytes stays, and what stood under the other moves."""
    settings, clients = cluster.settings, cluster.clients
    await put(cluster, SENDS, sends("second"))
    async with (
        running_joiner(settings, clients, cluster.open_store),
        running_joiner(settings, clients, cluster.rollup_store, process=ROLLUP),
    ):
        await until_rolled(cluster, lambda found: _known(found, "second") == [2] * SENDS_WITH_PARTS)
        await put(cluster, SENDS, sends("first"))
        found = await until_rolled(
            cluster,
            lambda found: (
                _known(found, "first") == [2] * SENDS_WITH_PARTS
                and _known(found, "second") == [0] * SENDS_WITH_PARTS
            ),
        )
    assert len(found) == 2 * SENDS_WITH_PARTS
    assert counted(await output(clients, settings)) == Counter(pending=SENDS_WITH_PARTS)


def _known(found: dict[str, Rollup], recorded_as: str) -> list[int]:
    """How many messages each has."""
    return [
        rollup.summary.known
        for key, rollup in found.items()
        if rollup.summary and key.startswith(recorded_as)
    ]


async def test_a_repeated_receipt_makes_no_part(cluster: Cluster) -> None:
    """Only what changes a part is told."""
    settings, clients = cluster.settings, cluster.clients
    await put(cluster, SENDS, sends())
    await put(cluster, RECEIPTS, receipts(1, "delivered"))
    async with running_joiner(settings, clients, cluster.open_store):
        await _until_events(cluster, "new", 3 * SENDS_WITH_PARTS)
        before = await read_all(clients, settings, PARTS)
        await put(cluster, RECEIPTS, receipts(1, "delivered"))
        await _until_events(cluster, "repeat", SENDS_WITH_PARTS)
    assert sorted(await read_all(clients, settings, PARTS)) == sorted(before)


async def test_what_is_no_part_goes_to_quarantine(cluster: Cluster) -> None:
    settings, clients = cluster.settings, cluster.clients
    good = encode(Part(message_id="m", kind="parts", outcome="delivered"))
    deep = b'{"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    useless = [b"not json", b"{}", b'{"message_id":"\xff"}', deep]
    await put(cluster, PARTS, [("a", value, []) for value in [*useless, good]])
    async with running_joiner(settings, clients, cluster.rollup_store, process=ROLLUP):
        found = await until_rolled(cluster, lambda found: "a" in found)
    assert [item.part.message_id for item in found["a"].items] == ["m"]
    aside = [value for _, value in await read_all(clients, settings, QUARANTINE)]
    assert sorted(aside) == sorted(useless)


async def _until_events(cluster: Cluster, result: str, number: int) -> None:
    async with asyncio.timeout(60):
        while (await output(cluster.clients, cluster.settings)).events(result) < number:
            await asyncio.sleep(POLL_SECONDS)
