"""What becomes of one quarantined record now. Pure.

Where a webhook belongs is told by the detector that the edge asks (``schemas/vonage/detect.py``),
and whether it is understood by the decoders that joiner and loader use: nothing is put through
that would come back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import NamedTuple

from schemas import topics
from schemas.codec import TYPE_QUARANTINE, Headers, header
from schemas.numbers import iso_us, parse_iso_us
from schemas.vonage.decode import Unusable, decode
from schemas.vonage.detect import tell
from schemas.vonage.reasons import NotUnderstoodError
from schemas.vonage.signing import Verdict
from sinks import changes
from sinks.changes import RowReason
from sinks.rows import InboundReading, Version

REPLAYED = "st_replayed"
# Put aside on purpose, not because nobody understood them: only who names the reason wants them.
ON_PURPOSE = frozenset({Verdict.STALE.value, Verdict.UNDATED.value, RowReason.REFUSED.value})
_INPUTS = (topics.SENDS, topics.STATUSES, topics.RECEIPTS, topics.INBOUND)
_OF_QUARANTINE = ("reason", "st_origin", REPLAYED)
_ANY_VERSION = Version(1, 0, 0)


class Why(StrEnum):
    """Why a record stays where it is."""

    NOT_UNDERSTOOD = "still not understood"
    ON_PURPOSE = "kept on purpose: name its reason to replay it"
    NOT_NAMED = "not among the reasons named"
    DERIVED = "made by sendtrace itself: `sendtrace rebuild` reads its topic again"


class Again(NamedTuple):
    """It is put through: to this topic (without prefix), under the key that the edge gives."""

    topic: str
    key: bytes
    headers: Headers


def judge(
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
    origin: str,
    append_at_us: int,
    reasons: Collection[str] = (),
) -> Again | Why:
    """What becomes of a record. ``origin`` is its own place in quarantine, ``append_at_us`` when it
    came there; with ``reasons`` nothing else is put through."""
    reason = reason_of(headers)
    if reasons and reason not in reasons:
        return Why.NOT_NAMED
    if not reasons and reason in ON_PURPOSE:
        return Why.ON_PURPOSE
    # What quarantine called it is not what it is.
    headers = [each for each in headers if each != ("ce_type", TYPE_QUARANTINE.encode())]
    came_from = (header(headers, "st_origin") or "").rsplit("-", 2)[0]
    if came_from and came_from not in _INPUTS:
        return Why.DERIVED
    told = _told(value, headers, came_from, append_at_us)
    if told is None or value is None:
        return Why.NOT_UNDERSTOOD
    topic, key, ce_type = told
    if topic == came_from:  # another producer may have a word of its own for it
        ce_type = header(headers, "ce_type") or ""
    given = _given(headers, ce_type, origin, append_at_us)
    return Again(topic, key, given) if _is_usable(topic, value, given) else Why.NOT_UNDERSTOOD


def reason_of(headers: Sequence[tuple[str, bytes]]) -> str:
    return header(headers, "reason") or "no reason given"


def _told(
    value: bytes | None, headers: Sequence[tuple[str, bytes]], came_from: str, append_at_us: int
) -> tuple[str, bytes, str] | None:
    """Topic, key and type. None: nobody can tell."""
    if came_from == topics.SENDS:
        send = decode(topics.SENDS, value, headers, append_at_us)
        if isinstance(send, Unusable):
            return None
        return topics.SENDS, send.message_id.encode(), ""
    try:
        topic, key, ce_type = tell(value or b"", header(headers, "content-type"))
    except NotUnderstoodError:
        return None
    return topic, key.encode(), ce_type


def _given(
    headers: Sequence[tuple[str, bytes]], ce_type: str, origin: str, append_at_us: int
) -> Headers:
    """The headers it came with, without those of quarantine, and where it was."""
    given: Headers = []
    for name, content in headers:
        if name in _OF_QUARANTINE or (name == "ce_type" and ce_type):
            continue
        given.append((name, content))
    if ce_type:
        given.append(("ce_type", ce_type.encode()))
    if not _has_time(headers):
        # Arrival would be the time of this replay otherwise. This is nearer.
        given = [(name, content) for name, content in given if name != "ce_time"]
        given.append(("ce_time", iso_us(append_at_us).encode()))
    given.append((REPLAYED, origin.encode()))
    return given


def _has_time(headers: Sequence[tuple[str, bytes]]) -> bool:
    try:
        parse_iso_us(header(headers, "ce_time") or "")
    except (ValueError, TypeError):
        return False
    return True


def _is_usable(topic: str, value: bytes, headers: Headers) -> bool:
    """Whether the process that reads the topic would take it."""
    if topic == topics.INBOUND:
        row = changes.inbound_change(value, headers, 0, InboundReading(), _ANY_VERSION)
        return not isinstance(row, changes.Unusable)
    return not isinstance(decode(topic, value, headers, 0), Unusable)
