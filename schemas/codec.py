"""Bytes in and out: the typed encoders and decoders, made once, and the record headers.

Headers follow CloudEvents' Kafka binding in binary mode: what the edge knows goes there, never
into the body.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from schemas import events, lifecycle, rollup, totals
from schemas.events import Arrival, Erase, Revoke, Send
from schemas.formats import reader
from schemas.lifecycle import Lifecycle
from schemas.numbers import iso_us, parse_iso_us
from schemas.rollup import Part, Rollup
from schemas.totals import PositionsRecord, TotalsRecord

Headers = list[tuple[str, bytes]]

TYPE_STATUS = "com.vonage.messages.status.v1"
TYPE_STATUS_V01 = "com.vonage.messages.status.v0_1"
TYPE_INBOUND = "com.vonage.messages.inbound.v1"
TYPE_INBOUND_V01 = "com.vonage.messages.inbound.v0_1"
# Also the Alerts API's: only the joined send tells them apart (docs/vonage.md 1).
TYPE_RECEIPT = "com.vonage.sms.receipt.v1"
TYPE_SMS_INBOUND = "com.vonage.sms.inbound.v1"
TYPE_SEND = "com.sendtrace.send.v1"
TYPE_REVOKE = "com.sendtrace.revoke.v1"
TYPE_ERASE = "com.sendtrace.erase.v1"
TYPE_QUARANTINE = "com.sendtrace.quarantine.v1"
TYPE_PULSE = "com.sendtrace.pulse.v1"
TYPE_REPLAYED = "com.sendtrace.replayed.v1"

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
decode_send = reader(Send, events.FORMAT)
decode_revoke = reader(Revoke, events.FORMAT)
decode_erase = reader(Erase, events.FORMAT)
decode_lifecycle = reader(Lifecycle, lifecycle.FORMAT)
decode_part = reader(Part, rollup.FORMAT)
decode_rollup = reader(Rollup, rollup.FORMAT)
decode_totals = reader(TotalsRecord, totals.FORMAT)
decode_positions = reader(PositionsRecord, totals.FORMAT)


def event_id(method: str, path: str, raw: bytes) -> str:
    """``ce_id``: the same request gives the same id. ``raw`` is the body, or a GET's query."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(method.encode())
    digest.update(b"\0")
    digest.update(path.encode())
    digest.update(b"\0")
    digest.update(raw)
    return digest.hexdigest()


def cloud_event(
    *,
    ce_type: str,
    ce_id: str,
    source: str,
    at_us: int,
    content_type: str | None,
    verified: str = "none",
) -> Headers:
    """The headers of a record that the edge writes. ``source`` is account and path."""
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", ce_id.encode()),
        ("ce_type", ce_type.encode()),
        ("ce_source", source.encode()),
        ("ce_time", iso_us(at_us).encode()),
        ("ce_verified", verified.encode()),
    ]
    if content_type is not None:
        headers.append(("content-type", content_type.encode("latin-1", "replace")))
    return headers


def header(headers: Sequence[tuple[str, bytes | None]], name: str) -> str | None:
    for key, value in headers:
        if key == name and value is not None:  # Kafka's headers may be null
            return value.decode("latin-1")
    return None


def arrival(headers: Sequence[tuple[str, bytes | None]], fallback_at_us: int) -> Arrival:
    """When and from whom a record came. Another producer may leave headers out: append time then.

    An account counts only if the edge verified it.
    """
    at_us = fallback_at_us
    account = None
    verified = False
    after_refusal = False
    for key, value in headers:
        if value is None:
            continue
        if key == "ce_time":
            try:
                told_us = parse_iso_us(value.decode("ascii"))
                at_us = told_us if told_us >= 0 else fallback_at_us
            except (ValueError, TypeError):  # TypeError: a time without a zone
                at_us = fallback_at_us
        elif key == "ce_source" and value.startswith(b"//"):
            account = value[2:].partition(b"/")[0].decode("latin-1") or None
        elif key == "ce_verified":
            verified = value in (b"jwt", b"sig", b"token")
        elif key == "ce_afterrefusal":
            after_refusal = value == b"true"
    return Arrival(at_us, account if verified else None, after_refusal)
