"""Watches that the topics of a process stay the ones it began with.

A topic that is made anew while it is read may be filled past our position before we ask for the
next record, and a topic that is given more partitions goes on as if nothing were: neither is an
error of any request. So Kafka is asked for ids and partition counts every now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from aiokafka.errors import KafkaError

from schemas.topics import BY_NAME
from sendtrace.runtime.kafka import Clients, TopicReader, stop_quietly
from sendtrace.runtime.metadata import TopicState
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.topics import (
    RETRY_SECONDS,
    DependencyAway,
    TopicChanged,
    away,
    other_count,
)

# Each costs a millisecond of CPU. What is read in between is read again after a new start.
LOOK_SECONDS = 2.0
# A broker that just started may not know all topics yet: gone is what is gone twice in a row.
GONE_LOOKS = 2
BEGIN_TIMEOUT_SECONDS = 10.0


class TopicWatch:
    """What is known of the topics. ``check`` raises once they are not the same any more.

    ``changed`` is set then, for those who do not come round to ask.
    """

    def __init__(
        self,
        reader: TopicReader,
        counts: Mapping[str, int],
        *,
        may_be_remade: bool,
    ) -> None:
        self.changed = asyncio.Event()
        self.topic_ids: dict[str, str] = {}  # as they were at the start, by full name
        self._reader = reader
        self._counts = counts
        self._may_be_remade = may_be_remade
        self._gone: dict[str, int] = {}
        self._looking: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Raises TopicChanged, in one sentence; or what else ended the looking."""
        if self._looking is not None and self._looking.done():
            self._looking.result()

    async def begin(self) -> None:
        """Take the topics as they are. Raises TopicChanged; TimeoutError where none answers."""
        async with asyncio.timeout(BEGIN_TIMEOUT_SECONDS):
            found = await self._ask()
            # An id that is not known now would be saved as none: nothing made anew would be told.
            while len(found) < len(self._counts) and not self._may_be_remade:
                await asyncio.sleep(RETRY_SECONDS)
                found = await self._ask()
        self._judge(found)
        self.topic_ids = {name: state.topic_id for name, state in found.items()}

    async def _ask(self) -> Mapping[str, TopicState]:
        """Until one answers: the client asks any broker, also one that is away."""
        while True:
            try:
                return await self._reader.describe(list(self._counts))
            except (KafkaError, OSError):
                await asyncio.sleep(RETRY_SECONDS)

    def go_on(self) -> None:
        """Look every now and then, beside whoever asks."""
        self._looking = asyncio.create_task(self._look())
        self._looking.add_done_callback(lambda _: self.changed.set())

    async def end(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def _look(self) -> None:
        """Until something changed. Kafka away is no change: whoever reads or writes says so."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(KafkaError, OSError):
                self._judge(await self._reader.describe(list(self._counts)))

    def _judge(self, found: Mapping[str, TopicState]) -> None:
        for name, count in self._counts.items():
            state = found.get(name)
            if state is not None and state.partitions != count:
                raise TopicChanged(other_count(name, count, state.partitions))
            if not self._may_be_remade:
                self._judge_identity(name, state)

    def _judge_identity(self, name: str, state: TopicState | None) -> None:
        known = self.topic_ids.get(name)
        if state is None:
            self._gone[name] = self._gone.get(name, 0) + 1
            if self._gone[name] >= GONE_LOOKS:
                raise TopicChanged(
                    f"{name} is gone: somebody deleted it while it was in use. Restore it, or run "
                    "`sendtrace topics apply` and start anew"
                )
            return
        self._gone.pop(name, None)
        if known is not None and known != state.topic_id:
            raise TopicChanged(
                f"{name} was made anew while it was in use (its id was {known}, and is "
                f"{state.topic_id}): restore it, or start once with --accept-gap where that is an "
                "option (docs/operations.md)"
            )


@asynccontextmanager
async def watching(
    clients: Clients,
    settings: Settings,
    names: Collection[str],
    *,
    may_be_remade: bool = False,
) -> AsyncIterator[TopicWatch]:
    """Watches topics (names without prefix) as long as the block lasts."""
    counts = {
        settings.topic(name): settings.partitions * BY_NAME[name].stages for name in sorted(names)
    }
    reader = clients.topic_reader()
    try:
        watch = TopicWatch(reader, counts, may_be_remade=may_be_remade)
        try:
            await reader.start()
            await watch.begin()
        except TimeoutError as error:
            raise DependencyAway(away(settings)) from error
        watch.go_on()
        try:
            yield watch
        finally:
            await watch.end()
    finally:
        await stop_quietly(reader)
