"""What became of each message against what the ledger says must become of it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from msgspec.structs import asdict

from processors.join import derive as join
from processors.join import facts
from processors.join.policy import Policy
from processors.rollup import derive as roll
from schemas.lifecycle import Lifecycle
from schemas.rollup import Rollup
from schemas.topics import RECEIPTS, SENDS, STATUSES
from schemas.vonage.decode import Unusable, decode
from sendtrace.simulator import ledger
from sendtrace.simulator.compare import (
    fact_differences,
    message_differences,
    rollup_differences,
)
from sendtrace.simulator.expect import rollup as rolled_up
from sendtrace.verify.found import Difference, Found
from sinks.rows import INBOUND

_ID = INBOUND.names.index("message_id")
# Of a lifecycle: what no deadline has part in.
_FROM_INPUTS = ("send", "facts", "revoke_requested_at_us", "truncated", "erased_at_us")
_WHOSE = tuple(map(INBOUND.names.index, ("api", "channel", "account")))


def messages(
    book: ledger.Book, found: Found, slack_us: int, compared: Counter[str]
) -> Iterator[Difference]:
    """Of a message that was cut short, only that nothing was made up; of one that was to be erased,
    that nothing is left."""
    for message_id, told in book.messages.items():
        lifecycle = found.lifecycles.get(message_id)
        if message_id in found.erased:
            compared["messages erased"] += 1
            sentences = list(_left(lifecycle, message_id in found.forgotten))
        elif message_id not in book.complete:
            compared["messages cut short"] += 1
            sentences = [] if lifecycle is None else list(_made_up(told, lifecycle))
        elif message_id in found.forgotten:
            compared["messages forgotten"] += 1
            continue
        elif lifecycle is None:
            sentences = ["it was sent, and is not there"]
        else:
            compared["messages"] += 1
            sentences = _message(told, lifecycle, found.now_us, slack_us)
        yield from (Difference("lifecycles", message_id, sentence) for sentence in sentences)
    for message_id in found.lifecycles.keys() - book.messages.keys() - found.erased:
        yield Difference("lifecycles", message_id, "it is there, and nobody sent it")


def _message(told: ledger.Message, lifecycle: Lifecycle, now_us: int, slack_us: int) -> list[str]:
    if lifecycle.summary is None:
        return ["it is erased"]
    seen = [(fact.status, fact.code) for fact in lifecycle.facts]
    sentences = message_differences(
        told, told.standings(now_us, slack_us), asdict(lifecycle.summary)
    )
    # Two accounts may tell the same: only one of them has the message.
    if len({(fact.status, fact.code, fact.account) for fact in lifecycle.facts}) != len(seen):
        sentences.append(f"a fact stands twice among {seen!r}")
    send_id = lifecycle.send.send_id if lifecycle.send else None
    if told.send_id is not None and told.send_id != send_id:
        sentences.append(f"send_id is {send_id!r}, not {told.send_id!r}")
    return sentences + fact_differences(told, seen)


def _left(lifecycle: Lifecycle | None, is_forgotten: bool) -> Iterator[str]:
    if lifecycle is None and not is_forgotten:
        yield "it was to be erased, and is not there to stay so"
    elif lifecycle is not None and not lifecycle.erased:
        yield "it was to be erased, and is not"


def _made_up(told: ledger.Message, lifecycle: Lifecycle) -> Iterator[str]:
    for fact in lifecycle.facts:
        if (fact.status, fact.code) not in told.facts:
            yield f"nobody told the fact {(fact.status, fact.code)!r}"


def rollups(
    book: ledger.Book, found: Found, slack_us: int, compared: Counter[str]
) -> Iterator[Difference]:
    for key, told in book.rollups.items():
        left = [one for one in told.message_ids if one not in found.erased]
        if key not in book.complete or not left:
            continue  # when all are erased it is told nowhere what it was
        compared["rollups"] += 1
        rollup = found.rollups.get(key)
        if rollup is None:
            sentences = ["its messages were sent, and it is not there"]
        else:
            sentences = _members(told, rollup, found.erased)
            if len(left) < len(told.message_ids):
                told = rolled_up(key, told.kind, [book.messages[one] for one in left])
            sentences += _rollup(told, rollup, found.now_us, slack_us)
        yield from (Difference("rollups", key, sentence) for sentence in sentences)
    for key in found.rollups.keys() - book.rollups.keys():
        yield Difference("rollups", key, "it is there, and nobody sent it")


def _members(told: ledger.Rollup, rollup: Rollup, erased: set[str]) -> list[str]:
    """One that was erased before its part was told is none."""
    members = {item.part.message_id for item in rollup.items}
    wanted = set(told.message_ids)
    if wanted - erased <= members <= wanted:
        return []
    return [f"its messages are {sorted(members)}, not {sorted(wanted)}"]


def _rollup(told: ledger.Rollup, rollup: Rollup, now_us: int, slack_us: int) -> list[str]:
    sentences = []
    if rollup.kind != told.kind:
        sentences.append(f"kind is {rollup.kind!r}, not {told.kind!r}")
    standings = told.standings(now_us, slack_us)
    if len(standings) > 1 or rollup.summary is None:
        return sentences  # its messages settle one after the other just now
    seen = asdict(rollup.summary) | {"kind": rollup.kind}
    return sentences or rollup_differences(told, standings, seen)


def inbound(book: ledger.Book, found: Found, compared: Counter[str]) -> Iterator[Difference]:
    """Whoever wrote to us is told by API, channel and account; an edge could keep it elsewhere.
    What was forgotten must not be there."""
    there = {row[_ID]: [row[at] for at in _WHOSE] for row in found.tables[INBOUND.name].values()}
    for message_id, told in book.inbound.items():
        if message_id not in book.complete:
            continue
        compared["inbound messages"] += 1
        wanted = [told.api, told.channel, told.account]
        seen = there.get(message_id)
        if message_id in found.inbound_forgotten:
            if seen is not None:
                yield Difference("inbound", message_id, "it was forgotten, and is there")
        elif seen is None:
            yield Difference("inbound", message_id, "it was sent, and is not there")
        elif seen != wanted:
            yield Difference("inbound", message_id, f"it is {seen!r}, not {wanted!r}")


def unjoined(found: Found) -> Iterator[Difference]:
    """Lifecycles that are not the union of what the inputs say of their messages. What they forgot
    they cannot say again, and deadlines come from no input."""
    told: dict[str, Lifecycle] = {}
    for topic in (SENDS, STATUSES, RECEIPTS):
        for kept in found.topics[topic]:
            event = decode(topic, kept.value, kept.headers, kept.timestamp_ms * 1000)
            if not isinstance(event, Unusable):
                known = told.get(event.message_id) or facts.empty(event.message_id)
                told[event.message_id] = facts.joined(known, event)
    for message_id, lifecycle in found.lifecycles.items():
        if lifecycle.fragment:
            continue
        wanted = told.get(message_id) or facts.empty(message_id)
        for name in _FROM_INPUTS:
            if getattr(lifecycle, name) != getattr(wanted, name):
                yield Difference("lifecycles", message_id, f"{name} is not what its inputs say")


def underived(found: Found, policy: Policy) -> Iterator[Difference]:
    """What does not follow from its own facts, or parts."""
    sentence = "its summary is not what follows from it"
    for message_id, lifecycle in found.lifecycles.items():
        if join.summarise(lifecycle, policy) != lifecycle.summary:
            yield Difference("lifecycles", message_id, sentence)
    for key, rollup in found.rollups.items():
        if roll.summarise(rollup) != rollup.summary:
            yield Difference("rollups", key, sentence)
