"""``sendtrace forget``: a person is to be forgotten, or some messages.

1. With a number: wait until the loader has what the topics have now, or the warehouse would not
   name all messages.
2. Ask the warehouse for the ids of the messages to it; write an erase to ``sends`` for each. The
   joiner then keeps the id alone, the loader deletes the row, what comes later is stripped.
3. Delete the rows of inbound messages from it; their ids stay, so that a repeat, or a rebuild, does
   not bring them back. Last: a run that was killed before is run again, and finds them.

The input topics keep their bytes until their retention is over: 7 days, quarantine 30.
Must: neither number nor ids are printed or logged, only how many.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence

from aiokafka.errors import KafkaError
from msgspec import Struct

from schemas.codec import TYPE_ERASE, cloud_event, encode, event_id
from schemas.events import Erase
from schemas.topics import INBOUND, LIFECYCLES, SENDS, partition_of
from sendtrace.runtime.kafka import Clients, Partition, Producer, partitions_of, stop_quietly
from sendtrace.runtime.outgoing import Outgoing, batches_of
from sendtrace.runtime.reading import open_reader, read_until
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.topics import DependencyAway
from sinks.postgres import saved_positions, short_session

# Sooner or later the loader has everything; longer than this it does not run.
LOADER_TIMEOUT_SECONDS = 60.0
ACK_TIMEOUT_SECONDS = 30.0
# So many erasures are on their way at once.
CHUNK = 5_000
# The topic keeps inbound messages for 7 days: for so long the loader may meet one again.
_KEPT_DAYS = 30
_NAME, _SOURCE = "sendtrace forget", "/forget"
_punctuation = re.compile(r"[\s().\-/]+")
_phone = re.compile(r"\+?\d{5,20}").fullmatch


class Report(Struct):
    """How many: never which."""

    dry_run: bool
    messages: int = 0  # erasures written to `sends`
    inbound: int = 0  # rows deleted


def forms_of(recipient: str) -> list[str]:
    """How a number may stand in the tables: as given, and as Vonage writes it."""
    given = recipient.strip()
    forms = {given}
    digits = _punctuation.sub("", given)
    if _phone(digits):
        bare = digits.removeprefix("+")
        forms |= {bare, f"+{bare}"}
    return sorted(forms)


async def forget(
    clients: Clients,
    settings: Settings,
    *,
    recipient: str | None = None,
    message_ids: Sequence[str] = (),
    dry_run: bool = False,
    now_us: Callable[[], int],
) -> Report:
    """Forget the messages to and from a number, or those named. Safe to run again.

    Raises DependencyAway when Kafka, PostgreSQL or the loader is away.
    """
    numbers = forms_of(recipient) if recipient else []
    if numbers:
        await _until_loaded(clients, settings)
    ids = sorted({*message_ids, *await _messages_to(settings, numbers)})
    report = Report(dry_run, len(ids))
    if dry_run:
        report.inbound = await _count_inbound(settings, numbers, message_ids)
        return report
    if ids:
        await _erase(clients, settings, ids, now_us)
    report.inbound = await _delete_inbound(settings, numbers, message_ids)
    return report


async def _until_loaded(clients: Clients, settings: Settings) -> None:
    """Until the loader is as far as the topics are now. Raises DependencyAway."""
    partitions = [tp for name in (LIFECYCLES, INBOUND) for tp in partitions_of(settings, name)]
    saved = await _saved(settings)
    async with open_reader(clients, partitions) as reader:
        begins = await reader.beginning_offsets(partitions)
        ends = await reader.end_offsets(partitions)
        for tp in partitions:
            reader.seek(tp, max(begins[tp], min(saved.get(tp, 0), ends[tp])))
        # Ends count control records too, which the loader's positions may never reach.
        wanted: dict[Partition, int] = {}
        async for tp, records in read_until(reader, ends):
            wanted[tp] = records[-1].offset + 1
    try:
        async with asyncio.timeout(LOADER_TIMEOUT_SECONDS):
            while any(saved.get(tp, 0) < at for tp, at in wanted.items()):
                await asyncio.sleep(0.1)
                saved = await _saved(settings)
    except TimeoutError as error:
        raise DependencyAway(
            "The loader is behind, so the warehouse does not know all messages: start it, or let "
            "it catch up, and run this again"
        ) from error


async def _saved(settings: Settings) -> Mapping[Partition, int]:
    async with short_session(settings.postgres_dsn, _NAME) as connection:
        return {tp: position.next for tp, position in (await saved_positions(connection)).items()}


async def _messages_to(settings: Settings, numbers: Sequence[str]) -> list[str]:
    if not numbers:
        return []
    async with short_session(settings.postgres_dsn, _NAME) as connection:
        rows = await connection.fetch(
            "select message_id from messages where recipient = any($1)", numbers
        )
    return [row["message_id"] for row in rows]


async def _erase(
    clients: Clients, settings: Settings, ids: Sequence[str], now_us: Callable[[], int]
) -> None:
    producer = clients.producer()
    try:
        async with asyncio.timeout(ACK_TIMEOUT_SECONDS):
            await producer.start()
        for at in range(0, len(ids), CHUNK):
            records = [_record(settings, each, now_us()) for each in ids[at : at + CHUNK]]
            await _send(producer, settings, records)
    except (KafkaError, TimeoutError) as error:
        raise DependencyAway(
            f"Kafka did not take every erasure ({type(error).__name__}): run it again"
        ) from error
    finally:
        await stop_quietly(producer)


async def _send(producer: Producer, settings: Settings, records: Sequence[Outgoing]) -> None:
    async with asyncio.timeout(ACK_TIMEOUT_SECONDS):
        acks = [
            await producer.send_batch(batch, settings.topic(topic), partition=partition)
            for topic, partition, batch in batches_of(producer, records)
        ]
        await asyncio.gather(*acks)


def _record(settings: Settings, message_id: str, at_us: int) -> Outgoing:
    key = message_id.encode()
    headers = cloud_event(
        ce_type=TYPE_ERASE,
        ce_id=event_id("FORGET", _SOURCE, key),
        source=_SOURCE,
        at_us=at_us,
        content_type="application/json",
    )
    value = encode(Erase(message_id=message_id, arrived_at_us=at_us))
    return Outgoing(SENDS, partition_of(key, settings.partitions), key, value, headers)


_OF_PERSON = "sender = any($1) or message_id = any($2)"


async def _count_inbound(settings: Settings, numbers: Sequence[str], ids: Sequence[str]) -> int:
    async with short_session(settings.postgres_dsn, _NAME) as connection:
        query = f"select count(*) from inbound where {_OF_PERSON}"  # noqa: S608  # a constant
        return int(await connection.fetchval(query, numbers, list(ids)))


async def _delete_inbound(settings: Settings, numbers: Sequence[str], ids: Sequence[str]) -> int:
    """And note their ids; what was noted long ago cannot come again."""
    async with short_session(settings.postgres_dsn, _NAME) as connection:
        await connection.execute(
            "delete from inbound_forgotten where forgotten_at < now() - $1 * interval '1 day'",
            _KEPT_DAYS,
        )
        return int(
            await connection.fetchval(
                f"with gone as (delete from inbound where {_OF_PERSON} returning message_id), "  # noqa: S608  # a constant
                "noted as (insert into inbound_forgotten (message_id) "
                "select distinct message_id from gone on conflict do nothing) "
                "select count(*) from gone",
                numbers,
                list(ids),
            )
        )


def as_text(report: Report) -> str:
    """What was done, and what was not."""
    verb = "would be" if report.dry_run else "are"
    return "\n".join(
        [
            f"{report.messages:,} messages {verb} erased: their rows go in a moment, and what "
            "comes later is stripped",
            f"{report.inbound:,} rows of inbound messages {verb} deleted",
            "The input topics keep what they have until their retention is over: 7 days, and "
            "quarantine 30.",
        ]
    )
