"""What must follow from what is told of a message: worked out by hand from Vonage's documents.

It knows what was planned (an ending, a price, times), where the pipeline must find it out from
payloads: so neither repeats the other's mistakes. Sources: docs/vonage.md and docs/rules.md,
by their sections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from sendtrace.simulator.endings import (
    HOUR,
    VERDICTS,
    Ending,
    Fate,
    Verdict,
)  # fmt: skip
from sendtrace.simulator.ledger import Message, Rollup, RollupStanding, Standing
from sendtrace.simulator.parties import Leg
from sendtrace.simulator.webhook import Api, Told

CURRENCY = "EUR"  # that of accounts and of usage (docs/vonage.md 2)
SECOND_US, MILLISECOND_US = 1_000_000, 1_000
# A message must be final an hour after min(ttl, 72 h), so that Vonage's last word can arrive.
LONGEST_SECONDS, MARGIN_SECONDS = 72 * HOUR, HOUR
CHARGED_AT_HAND_OVER = ("sms", "mms")
STARTS = ("accepted", "buffered", "submitted")
_NO_CODE = ("", "0")


@dataclass(frozen=True)
class Send:
    """What our side tells of the API call, and when."""

    send_id: str | None
    requested_us: int
    answered_us: int | None  # None: no answer came
    part: int = 1
    parts: int = 1


@dataclass(frozen=True)
class Tale:
    """Everything that is going to be known of one message."""

    message_id: str
    api: Api
    leg: Leg
    ending: Ending | Fate
    planned_at_us: int
    time_scale: float = 1.0
    told: tuple[Told, ...] = ()
    send: Send | None = None
    version: Literal["v1", "v0.1"] | None = None  # of the Messages API
    account: str | None = None  # None: nobody proves whose it is
    workflow_id: str | None = None
    ttl_seconds: int | None = None
    code: str | None = None  # of a refusal: the answer's
    is_aggregated: bool = False  # Vonage held it back and does not say for how long
    foreign: tuple[tuple[str, str], ...] = ()  # facts that another account told


def message(tale: Tale) -> Message:
    told, settled = VERDICTS[tale.ending]
    has_deadline = not (told.is_final or tale.ending in ("untracked", "unanswered"))
    send = tale.send
    return Message(
        message_id=tale.message_id,
        # Their receipts look alike: only a send tells the two apart (docs/vonage.md 1).
        api="sms_or_alerts" if tale.send is None and tale.api != "messages" else tale.api,
        planned_at_us=tale.planned_at_us,
        channel=tale.leg.channel,
        account=tale.account,
        country=tale.leg.country,
        network=_network(tale),
        send_id=send.send_id if send else None,
        part=send.part if send else 1,
        parts=send.parts if send else 1,
        workflow_id=tale.workflow_id,
        told=_standing(tale, told, has_settled=False),
        settled=_standing(tale, settled, has_settled=has_deadline),
        settles_at_us=_final_us(tale) if has_deadline else None,
        facts=_facts(tale),
        **_latencies(tale),
    )


def _standing(tale: Tale, verdict: Verdict, *, has_settled: bool) -> Standing:
    flags, possible = set(verdict.flags), set(verdict.possible)
    if tale.is_aggregated and any(told.status == "delivered" for told in tale.told):
        flags.add("aggregated")
    if tale.foreign:
        flags.add("foreign_account")
    # Five minutes are waited for the send of a message that came by itself; of a failover's
    # further items there is none.
    if tale.send is None and tale.workflow_id is None and not verdict.is_final:
        (flags if has_settled else possible).add("no_send")
    cost = _cost_units(tale, verdict.outcome)
    return Standing(
        outcome=verdict.outcome,
        is_final=verdict.is_final,
        flags=tuple(sorted(flags)),
        possible=tuple(sorted(possible)),
        code=_code(tale, verdict.outcome),
        cost_units=cost[0] if cost else None,
        currency=CURRENCY if cost else None,
        cost_source=cost[1] if cost else None,
    )


def _final_us(tale: Tale) -> int:
    seconds = min(tale.ttl_seconds or LONGEST_SECONDS, LONGEST_SECONDS) + MARGIN_SECONDS
    return tale.planned_at_us + int(seconds * SECOND_US / tale.time_scale)


def _facts(tale: Tale) -> tuple[tuple[str, str], ...]:
    own = [(told.status, "" if told.code in _NO_CODE else told.code) for told in tale.told]
    return tuple(sorted({*own, *tale.foreign}))


def _code(tale: Tale, outcome: str) -> str | None:
    """Of the word that counts: the outcome's own, else the last one that is told here."""
    if tale.ending == "refused":
        return tale.code
    deciding = [told for told in tale.told if told.status == outcome] or tale.told
    code = deciding[-1].code if deciding else ""
    return None if code in _NO_CODE else code


def _network(tale: Tale) -> str | None:
    """Receipts tell it, statuses of v1 of what goes by a network, and answers of the SMS API."""
    code = tale.leg.network.code
    if tale.api == "messages":
        by_network = tale.leg.channel in ("sms", "mms", "rcs")
        return code if tale.version == "v1" and by_network and tale.told else None
    return code if tale.told or _has_estimate(tale) else None


# --- money (docs/vonage.md 2 and 3, docs/rules.md 5) ---


def units(price: str) -> int:
    """Of 1e-8 of the currency."""
    return int(Decimal(price).scaleb(8))


def _cost_units(tale: Tale, outcome: str) -> tuple[int, str] | None:
    """What it costs and who says so. None: nobody knows."""
    if tale.ending == "refused" or (tale.ending == "ttl_silent" and outcome == "expired"):
        return 0, "event"
    if tale.ending == "unanswered":
        return None
    # SMS and MMS cost from hand-over on, whatever becomes of them; others once delivered.
    if tale.leg.channel not in CHARGED_AT_HAND_OVER and outcome not in ("delivered", "read"):
        return None
    if any(_tells_price(tale, told) for told in tale.told):
        return units(tale.leg.price), "event"
    return (units(tale.leg.estimate), "estimate") if _has_estimate(tale) else None


def _tells_price(tale: Tale, told: Told) -> bool:
    if tale.api != "messages":
        return True  # every receipt repeats it
    if tale.version == "v1" and tale.leg.channel in CHARGED_AT_HAND_OVER:
        return True
    if tale.version == "v1" and tale.leg.channel == "rcs":
        return False  # a status of RCS has no usage
    return told.status in ("delivered", "read")


def _has_estimate(tale: Tale) -> bool:
    """Answers of the SMS API and the Alerts API name a price, those of the Messages API none."""
    return tale.api != "messages" and tale.send is not None and tale.ending not in (
        "refused", "unanswered",
    )  # fmt: skip


# --- time (docs/vonage.md 4, docs/rules.md 4) ---


def _latencies(tale: Tale) -> dict[str, int | None]:
    """Whole steps of the coarser clock: milliseconds in v0.1, else seconds. Never below 0."""
    step_us = MILLISECOND_US if tale.version == "v0.1" else SECOND_US
    start = _earliest([told.at_us for told in tale.told if told.status in STARTS])
    delivered = _earliest(
        [max(told.segments_at_us, default=told.at_us)
         for told in tale.told if told.status == "delivered"]
    )  # fmt: skip
    read = _earliest([told.at_us for told in tale.told if told.status == "read"])
    answered = tale.send.answered_us if tale.send else None

    def between(begin_us: int | None, end_us: int | None) -> int | None:
        if begin_us is None or end_us is None:
            return None
        return max(0, (end_us // step_us - begin_us // step_us) * step_us // 1000)

    accept = None
    if tale.send is not None and answered is not None:
        accept = (answered - tale.send.requested_us) // 1000
    return {
        "carrier_latency_ms": between(start, delivered),
        "deliver_latency_ms": between(answered, delivered),
        "accept_latency_ms": accept,
        "read_latency_ms": between(delivered, read),
    }


def _earliest(times_us: Sequence[int]) -> int | None:
    return min(times_us, default=None)


# --- several messages (docs/rules.md 3, Roll-up) ---

# A failure shows before a silence. Equal ones: the later.
_WORST_FIRST = (
    ("rejected", "failed", "undeliverable"), ("expired",), ("revoked",), ("refused",),
    ("unanswered",), ("unknown",), ("unconfirmed",), ("missing",), ("untracked",),
)  # fmt: skip
_ARRIVED = ("delivered", "read")


def rollup(key: str, kind: Literal["parts", "failover"], messages: Sequence[Message]) -> Rollup:
    """What becomes of a send with these messages; items of a failover in their order."""
    settles = [message.settles_at_us for message in messages if message.settles_at_us]
    return Rollup(
        id=key,
        kind=kind,
        message_ids=tuple(message.message_id for message in messages),
        told=_rolled_up(kind, [message.told for message in messages], ("pending", "unknown")),
        settled=_rolled_up(kind, [message.settled for message in messages], ()),
        settles_at_us=max(settles, default=None),
    )


def _rolled_up(
    kind: str, standings: Sequence[Standing], still_open: tuple[str, ...]
) -> RollupStanding:
    outcomes = [standing.outcome for standing in standings]
    arrived = [outcome for outcome in outcomes if outcome in _ARRIVED]
    outcome, also = _outcome_of_all(kind, outcomes, arrived, still_open)
    costs: dict[str, int] = {}
    for standing in standings:
        if standing.cost_units is not None and standing.currency is not None:
            costs[standing.currency] = costs.get(standing.currency, 0) + standing.cost_units
    return RollupStanding(
        outcome=outcome, also=also, delivered=len(arrived), costs=tuple(sorted(costs.items()))
    )


def _outcome_of_all(
    kind: str, outcomes: list[str], arrived: list[str], still_open: tuple[str, ...]
) -> tuple[str, tuple[str, ...]]:
    is_open = any(outcome in still_open for outcome in outcomes)
    if kind == "failover":
        if arrived:
            return ("read" if "read" in arrived else "delivered"), ()
        return ("pending" if is_open else outcomes[-1]), ()
    if is_open:
        return "pending", ()
    if len(arrived) == len(outcomes):
        return ("read" if set(arrived) == {"read"} else "delivered"), ()
    if arrived:
        return "partial", ()
    for equal in _WORST_FIRST:
        found = tuple(sorted({outcome for outcome in outcomes if outcome in equal}))
        if found:
            return found[0], found[1:]
    raise AssertionError(outcomes)
