"""Bounds: whatever a webhook holds, 64 facts and a send fit in 256 KiB (docs/rules.md 1)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.events import Arrival, Fact
from schemas.vonage import messages_send, sms_send
from schemas.vonage.exchange import Exchange
from schemas.vonage.fields import address, ident, reference, text, word
from schemas.vonage.messages import decode_status
from schemas.vonage.sms import decode_receipt

LIMIT = 256 * 1024
FACTS = 64
# What the lifecycle holds beside its facts: the send, the summary, names and brackets.
REST = 16 * 1024
# Each takes the most bytes of JSON, or of UTF-8, for one character.
WORST = ["\x01" * 5_000, "\U0001f600" * 5_000, '"' * 5_000, "x" * 5_000]
ARRIVAL = Arrival(2**52, "a" * 64, after_refusal=True)


@given(st.text() | st.text('"\\\n\x01\x7fa\u20ac\U0001f600', max_size=400))
def test_text_is_cut_by_the_bytes_of_its_json_and_no_further(value: str) -> None:
    for read, length in ((text, 256), (ident, 128), (word, 64)):
        cut = read(value) or ""
        whole = value.replace("\0", "")
        assert len(msgspec.json.encode(cut)) - 2 <= length
        if cut and cut != whole:
            assert whole.startswith(cut)
            longer = whole[: len(cut) + 1]
            assert len(msgspec.json.encode(longer)) - 2 > length


@pytest.mark.parametrize("character", ["a", "\u4e16", "\U0001f600", "\x01"])
def test_a_reference_keeps_its_hundred_characters_whatever_they_are(character: str) -> None:
    assert reference(character * 150) == character * 100


@pytest.mark.parametrize("read", [text, ident, word, reference, address])
@pytest.mark.parametrize("nothing", ["", "null", None, [], {}, 1.5, True, "\0", 10**30])
def test_nothing_is_none(read: Callable[[object], object], nothing: object) -> None:
    assert read(nothing) is None


def largest_status(worst: str) -> Fact:
    segment = {"timestamp": "2025-02-03T12:14:25.000Z", "status": worst}
    body = {
        "message_uuid": "u", "status": worst, "to": {"number": worst}, "from": {"number": worst},
        "timestamp": "2025-02-03T12:14:25.000Z", "channel": worst, "client_ref": worst,
        "error": {"type": f"#{worst}", "title": worst, "code": "9" * 18, "instance": worst},
        "usage": {"currency": worst, "price": "999999999.99999999"},
        "destination": {"network_code": worst},
        "sms": {"count_total": 99_999, "segments": [segment] * 1_000},
        "workflow": {"workflow_id": worst, "items_number": 99_999, "items_total": 99_999},
        "whatsapp": {"pricing": {"type": worst, "pricing_model": worst, "category": worst},
                     "conversation": {"origin": {"type": worst}}},
    }  # fmt: skip
    return decode_status(json.dumps(body).encode(), ARRIVAL).fact


def largest_receipt(worst: str) -> Fact:
    names = ["status", "to", "msisdn", "network-code", "client-ref", "err-code", "api-key"]
    body: dict[str, Any] = {"messageId": "m", **dict.fromkeys(names, worst)}
    body |= {"message-timestamp": "\\2020-01-01\\ 12:00:00", "price": "999999999.99999999"}
    return decode_receipt(json.dumps(body).encode(), None, ARRIVAL).fact


@pytest.mark.parametrize("worst", WORST)
@pytest.mark.parametrize("largest", [largest_status, largest_receipt])
def test_the_largest_facts_fit(worst: str, largest: Callable[[str], Fact]) -> None:
    assert len(encode(largest(worst))) * FACTS <= LIMIT - REST


@pytest.mark.parametrize("worst", WORST)
def test_the_largest_sends_fit(worst: str) -> None:
    names = ["to", "from", "channel", "client_ref", "client-ref", "message_type", "type", "pool-id",
             "entity-id", "content-id", "template", "api_key"]  # fmt: skip
    nested = {"sms": dict.fromkeys(["encoding_type", "pool_id", "entity_id", "content_id"], worst)}
    item = dict.fromkeys(["to", "network", "error-text", "client-ref", "status"], worst)
    for parse, answer in (
        (messages_send.sends, {"title": worst, "type": f"#{worst}", "instance": worst}),
        (sms_send.sends, {"messages": [item]}),
    ):
        [send] = parse(
            Exchange(
                send_id="s" * 128,
                arrived_at_us=2**52,
                request={**dict.fromkeys(names, worst), **nested},
                answer_status=422,
                answer=answer,
            )
        )
        assert len(encode(send)) <= REST / 2
