"""Writes the stored values of today's format as fixtures: tests/data/formats/v<format>/.

    PYTHONPATH=tests python tools/formats.py

Joiner and rollup run over a log in memory, with their state on disk, through a day that brings
about every kind of value. What they wrote is kept as it is: ``records.jsonl`` has every record of
every topic, ``state-<process>.tar.gz`` their state directories.

Fixtures of a format are written once. Newer code reads them for ever (tests/contract/
test_formats.py), so a folder that is there is never written again; values that were forgotten are
a reason for one more folder (``v1b``), named as an argument.
"""

from __future__ import annotations

import asyncio
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import msgspec

from processors.store import RocksStore
from processors.wiring import JOINER, ROLLUP
from schemas import topics
from schemas.codec import (
    TYPE_ERASE,
    TYPE_PULSE,
    TYPE_RECEIPT,
    TYPE_REVOKE,
    TYPE_SEND,
    TYPE_STATUS,
    cloud_event,
    decode_lifecycle,
    decode_positions,
    encode,
)
from schemas.events import Erase, Revoke, Send
from schemas.lifecycle import Lifecycle
from schemas.pulses import Pulse
from schemas.topics import totals_partition
from schemas.totals import positions_key
from sendtrace.runtime.kafka import Partition
from sendtrace.runtime.settings import Settings

import corpus
from engine import running_joiner, status_body
from fakes.cluster import MemoryCluster

FORMATS = Path(__file__).parents[1] / "tests/data/formats"
START_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
# The first message is forgotten, so that what comes for it then begins a fragment.
LATER_MS = START_MS + 11 * 24 * HOUR_MS
CLUSTER = "fixture"
PREFIX = "test."
WAIT_SECONDS = 10.0

T = TypeVar("T")


class Recording:
    """Both stages over one partition, and a clock that only this tool moves."""

    def __init__(self, folder: Path) -> None:
        self.cluster = MemoryCluster(
            Settings(topic_prefix=PREFIX, partitions=1, transaction_interval_ms=1)
        )
        self.now_ms = START_MS
        self.cluster.log.now_ms = lambda: self.now_ms
        self.folder = folder
        self._number = 0

    async def run(self) -> None:
        async with AsyncExitStack() as ends:
            for process in (JOINER, ROLLUP):
                await ends.enter_async_context(
                    running_joiner(
                        self.cluster.settings, self.cluster.clients,
                        lambda _, name=process.name: RocksStore(self.folder / name),  # type: ignore[misc]
                        process=process, cluster=CLUSTER,
                    )
                )  # fmt: skip
            await self._day()
        for process in (JOINER, ROLLUP):  # a table on disk, beside the log of writes
            store = RocksStore(self.folder / process.name)
            store._db.flush()  # noqa: SLF001
            store.close()

    async def _day(self) -> None:
        self._send("forgotten")
        self._status("forgotten", "delivered")
        await self._until(lambda found: "forgotten" in found)
        self.now_ms = LATER_MS
        await self._until(lambda found: "forgotten" not in found)
        self._pulses()
        self._status("forgotten", "read")
        self._send("open")
        self._status("open", "submitted")
        self._send("silent", since_ms=80 * HOUR_MS)
        for number in (1, 2):
            self._send(f"part-{number}", send_id="two-parts", api="sms", part=number, parts=2)
        self._receipt("part-1", "delivered")
        for code in range(70):
            self._status("truncated", "failed", error=code)
        for end in ("revoked", "erased"):
            self._send(end)
            self._status(end, "submitted")
        self._put_own("revoked", Revoke(message_id="revoked", arrived_at_us=self.now_us), "revoke")
        self._corpus()
        self._put(topics.STATUSES, "broken", b"not JSON", TYPE_STATUS)
        await self._until(lambda found: "truncated" in found)
        self._put_own("erased", Erase(message_id="erased", arrived_at_us=self.now_us), "erase")
        await self._until(lambda found: "erased" in found and found["erased"].erased)
        await self._until_read()

    @property
    def now_us(self) -> int:
        return self.now_ms * 1000

    # -- what comes in -------------------------------------------------------------------------

    def _corpus(self) -> None:
        """Webhooks and sends of the golden corpus, until none adds a field."""
        for row in _widest(corpus.EVENTS, lambda row: row.golden):
            own, body = corpus.with_own_id(row)
            request = corpus.webhook(row, body)
            topic, ce_type = {
                "status": (topics.STATUSES, TYPE_STATUS),
                "receipt": (topics.RECEIPTS, TYPE_RECEIPT),
            }[row.fate]
            self._put(topic, own, request.stored, ce_type, request.content_type or corpus.FORM)
        sends = [
            send for row in corpus.REQUESTS for send in corpus.request_alone(row)[1]
        ] + [send for row in corpus.ANSWERS for send in corpus.answer_alone(row)[1]]  # fmt: skip
        for send in _widest(sends, lambda send: msgspec.json.decode(encode(send))):
            self._put_own(
                send.message_id, msgspec.structs.replace(send, arrived_at_us=self.now_us), "send"
            )

    def _send(
        self, message_id: str, *, send_id: str = "", since_ms: int = 0, api: str = "messages",
        part: int = 1, parts: int = 1,
    ) -> None:  # fmt: skip
        send = Send(
            message_id=message_id, send_id=send_id or message_id, api=api,  # type: ignore[arg-type]
            arrived_at_us=self.now_us - since_ms * 1000, account="acc", channel="sms",
            sender="Acme", recipient="447700900000", part=part, parts=parts, answer="accepted",
            price_units=3_330_000, currency="EUR",
        )  # fmt: skip
        self._put_own(message_id, send, "send")

    def _status(self, message_id: str, status: str, error: int | None = None) -> None:
        body = status_body(message_id, status)
        if error is not None:
            body = body[:-1] + b',"error":{"title":%d,"detail":"Error"}}' % (1000 + error)
        self._put(topics.STATUSES, message_id, body, TYPE_STATUS, "application/json")

    def _receipt(self, message_id: str, status: str) -> None:
        body = (
            f"messageId={message_id}&status={status}&err-code=0&msisdn=447700900000&to=Acme"
            "&price=0.03&scts=2611220500&message-timestamp=2026-11-22+05%3A00%3A03"
        )
        self._put(topics.RECEIPTS, message_id, body.encode(), TYPE_RECEIPT, corpus.FORM)

    def _pulses(self) -> None:
        """With a gap of ten minutes between them."""
        for minute in (0, 10):
            self.now_ms = LATER_MS + minute * 60_000
            pulse = Pulse(edge="e", at_us=self.now_us)
            self._put(topics.PULSES, "e", encode(pulse), TYPE_PULSE)

    def _put_own(self, message_id: str, value: Send | Revoke | Erase, kind: str) -> None:
        ce_type = {"send": TYPE_SEND, "revoke": TYPE_REVOKE, "erase": TYPE_ERASE}[kind]
        self._put(topics.SENDS, message_id, encode(value), ce_type, "application/json")

    def _put(
        self, topic: str, key: str, value: bytes, ce_type: str, content_type: str | None = None
    ) -> None:
        self._number += 1
        headers = cloud_event(
            ce_type=ce_type, ce_id=str(self._number), source="//acc/webhooks",
            at_us=self.now_us, content_type=content_type, verified="jwt",
        )  # fmt: skip
        self.cluster.log.put(PREFIX + topic, 0, key.encode(), value, headers)

    # -- what comes out ------------------------------------------------------------------------

    async def _until(self, holds: Callable[[dict[str, Lifecycle]], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not holds(self._lifecycles()):
                await asyncio.sleep(0.01)

    def _lifecycles(self) -> dict[str, Lifecycle]:
        latest = {e.key: e.value for e in self.cluster.log.records(PREFIX + topics.LIFECYCLES)}
        return {k.decode(): decode_lifecycle(v) for k, v in latest.items() if k and v}

    async def _until_read(self) -> None:
        """Everything of all inputs but pulses: those alone are no reason to commit."""
        async with asyncio.timeout(WAIT_SECONDS):
            for stage, names in (
                ("join", (topics.SENDS, topics.STATUSES, topics.RECEIPTS)),
                ("rollup", (topics.PARTS,)),
            ):
                while not self._is_read(stage, names):
                    await asyncio.sleep(0.01)

    def _is_read(self, stage: str, names: Sequence[str]) -> bool:
        log = self.cluster.log
        entries = log.records(PREFIX + topics.TOTALS, totals_partition(stage, 0, 1))
        latest = {entry.key: entry.value for entry in entries}
        reached = decode_positions(latest.get(positions_key(stage, 0)) or b"{}").next
        return all(reached.get(n) == log.stable_end(Partition(PREFIX + n, 0)) for n in names)

    def records(self) -> Iterator[dict[str, object]]:
        """Every record. Offsets that are left out are control records."""
        for tp, entries in sorted(self.cluster.log.entries.items()):
            for offset, entry in enumerate(entries):
                if not entry.control:
                    yield {
                        "topic": tp.topic.removeprefix(PREFIX),
                        "partition": tp.partition,
                        "offset": offset,
                        "at_ms": entry.timestamp_ms,
                        "headers": [[name, value.decode()] for name, value in entry.headers],
                        "key": entry.key.decode() if entry.key is not None else None,
                        "value": entry.value.decode() if entry.value is not None else None,
                    }


def _widest(rows: Sequence[T], fields_of: Callable[[T], dict[str, object]]) -> Iterator[T]:
    """Those that have a field which none before them had."""
    seen: set[str] = set()
    for row in rows:
        fields = {name for name, value in fields_of(row).items() if value is not None}
        if fields - seen:
            yield row
        seen |= fields


def _without_machine(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """RocksDB's log of what it did names this machine's folders, and is no state."""
    if Path(info.name).name.startswith(("LOG", "LOCK")):
        return None
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    return info


def main() -> None:
    folder = FORMATS / (sys.argv[1] if len(sys.argv) > 1 else "v1")
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        recording = Recording(Path(scratch))
        asyncio.run(recording.run())
        for process in (JOINER, ROLLUP):
            with tarfile.open(folder / f"state-{process.name}.tar.gz", "w:gz") as archive:
                archive.add(Path(scratch) / process.name, process.name, filter=_without_machine)
    lines = [msgspec.json.encode(record) for record in recording.records()]
    (folder / "records.jsonl").write_bytes(b"\n".join(lines) + b"\n")


if __name__ == "__main__":
    main()
