"""Messages that somebody asked to take back, and what the ledger says of them then.

The simulator plays `everything`, with more messages of which Vonage says `revoked`; beside it half
of the messages are revoked as `capture` does it, by a record of `sends`. What must follow is worked
out here from what the ledger had said.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

from msgspec.structs import replace

from schemas.codec import TYPE_REVOKE, encode
from schemas.events import Revoke
from sendtrace.runtime.kafka import Clients
from sendtrace.runtime.settings import Settings
from sendtrace.simulator import expect
from sendtrace.simulator.ledger import Book, Message, open_ledger, read_ledger
from sendtrace.simulator.requests import FILE, open_requests
from sendtrace.simulator.scenario import load
from sendtrace.simulator.webhook import Request

from engine import produce
from verifying import in_memory, played

ASKED_AFTER_SECONDS = 2.5
PLAYED_SECONDS = 2.0
EVERYTHING = load("everything")
# Also where a busy machine plays few messages, Vonage must say `revoked` of some.
SCENARIO = replace(
    EVERYTHING,
    text={**EVERYTHING.text, "withdrawn": 40.0},
    chat={**EVERYTHING.chat, "withdrawn": 40.0},
)
SLACK_US = 3_000_000  # until the joiner has read it


def asked_back(message: Message, asked_us: int) -> Message:
    """Nobody promises that it works, so it counts only where nothing better is known: when Vonage
    says so, or when the deadline goes by (docs/rules.md 3)."""
    told, settled = message.told, message.settled
    if settled.is_final or told.outcome in ("untracked", "unanswered"):
        return message
    if ("revoked", "") in message.facts:
        # Final at once: no deadline goes by any more, unless it had when it was asked.
        is_too_late = (message.settles_at_us or 0) < asked_us + SLACK_US
        possible = {*told.possible, *(settled.flags if is_too_late else ())}
        final = replace(told, outcome="revoked", is_final=True, possible=tuple(sorted(possible)))
        return replace(message, told=final, settled=final, settles_at_us=None)
    return replace(message, settled=replace(settled, outcome="revoked", is_final=True))


async def revoke(clients: Clients, settings: Settings, ledger: Path) -> dict[str, int]:
    """Ask for every second message, before the deadlines of those that have the whole time. When
    that was, by message."""
    await asyncio.sleep(ASKED_AFTER_SECONDS)
    ids = sorted(read_ledger(ledger).messages)[::2]
    now_us = time.time_ns() // 1000
    values = [(one, encode(Revoke(message_id=one, arrived_at_us=now_us))) for one in ids]
    asked = [(one, value, [("ce_type", TYPE_REVOKE.encode())]) for one, value in values]
    with open_requests(ledger.with_name(FILE)) as log:
        for one, value in values:
            log.answered(log.sending(Request("POST", "/sends", body=value), (one,), now_us), 200)
    await produce(clients, settings, asked, "sends")
    return dict.fromkeys(ids, now_us)


def amend(ledger: Path, asked: dict[str, int]) -> None:
    """The ledger's word on these, and on the sends that they are part of."""
    book = read_ledger(ledger)
    messages = dict(book.messages)
    messages |= {one: asked_back(messages[one], at_us) for one, at_us in asked.items()}
    rollups = [
        expect.rollup(each.id, each.kind, [messages[one] for one in each.message_ids])
        for each in book.rollups.values()
        if not asked.keys().isdisjoint(each.message_ids)
    ]
    names = {*asked, *(rollup.id for rollup in rollups)}
    with open_ledger(ledger) as lines:
        lines.announce([messages[one] for one in asked])
        lines.announce(rollups)
        lines.complete(sorted(names & book.complete))


async def test_a_message_that_was_asked_back_ends_so_unless_more_is_known(tmp_path: Path) -> None:
    stage, ledger = in_memory(tmp_path), tmp_path / "ledger.jsonl"
    asking = asyncio.create_task(revoke(stage.cluster.clients, stage.cluster.settings, ledger))

    async def end(_clients: Clients, _settings: Settings, _book: Book) -> None:
        amend(ledger, await asking)

    run = await played(
        stage, tmp_path, 150, PLAYED_SECONDS, SCENARIO, settle_seconds=25.0, afterwards=end
    )
    assert run.report().differences == []
    asked = await asking
    outcomes = Counter(
        lifecycle.summary.outcome
        for one, lifecycle in run.found.lifecycles.items()
        if one in asked and lifecycle.summary is not None
    )
    print(outcomes)
    assert outcomes["revoked"] > 3  # a busy machine plays few messages
    assert outcomes["delivered"]
    assert not outcomes.keys() & {"missing", "unconfirmed"}
    assert any(each.told.outcome == "revoked" for each in run.book.messages.values())
