"""POST /sends on the internal port: what becomes of a captured call, and what never gets out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.calls import Malformed, parse
from ingest.sends import is_loopback
from schemas.codec import decode_send, header

from fakes.edge import Edge

CALL: dict[str, Any] = {
    "api": "messages",
    "account": "abcd1234",
    "request": {
        "to": "447700900000",
        "from": "Acme",
        "channel": "sms",
        "text": "secret words",
        "api_secret": "s3cr3t",
        "sig": "s3cr3t",
        "Authorization": "Bearer s3cr3t",
    },
    "answer": {"status": 202, "body": {"message_uuid": "u1"}},
    "requested_at": "2025-02-03T12:14:25.100Z",
    "answered_at": "2025-02-03T12:14:25.300Z",
}
SMS = {
    "api": "sms",
    "request": {"to": "447700900000", "from": "Acme", "text": "secret words", "api_key": "k"},
    "answer": {
        "status": 200,
        "body": json.dumps({"messages": [
            {"to": "447700900000", "message-id": "m1", "status": "0"},
            {"status": "1", "error-text": "Throttled"},
        ]}),
    },
    "send_id": "mine",
}  # fmt: skip


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


async def post(edge: Edge, body: object) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else encoded(body)
    async with edge.session.post(f"{edge.internal}/sends", data=data) as response:
        text = await response.text()
        is_json = response.content_type == "application/json"
        return response.status, json.loads(text) if is_json else text


async def test_one_call_is_one_record(edge: Edge) -> None:
    status, answer = await post(edge, CALL)
    [entry] = edge.log.records("sendtrace.sends")
    send = decode_send(entry.value or b"")
    assert status == 200
    assert answer == {"accepted": [{"message_id": "u1", "send_id": send.send_id}]}
    assert (entry.key, send.message_id, send.account) == (b"u1", "u1", "abcd1234")
    assert (send.requested_at_us, send.answered_at_us) == (1738584865100000, 1738584865300000)
    assert header(entry.headers, "ce_type") == "com.sendtrace.send.v1"
    assert edge.count("sends_accepted", route="sends") == 1


async def test_neither_text_nor_credentials_are_stored(edge: Edge) -> None:
    await post(edge, [CALL, SMS])
    for entry in edge.log.records("sendtrace.sends"):
        everything = repr((entry.key, entry.value, entry.headers))
        assert "secret" not in everything
        assert "s3cr3t" not in everything


async def test_parts_refusals_and_the_three_envelopes(edge: Edge) -> None:
    ids = [
        {"message_id": "m1", "send_id": "mine"},
        {"message_id": "mine.2", "send_id": "mine"},
    ]
    for body in (SMS, [SMS], {"sends": [SMS]}):
        assert await post(edge, body) == (200, {"accepted": ids})
    assert await post(edge, []) == (200, {"accepted": []})


def test_the_same_input_gives_the_same_records() -> None:
    first, again = parse(encoded(CALL), 7), parse(encoded(CALL), 7)
    assert first == again
    unanswered = {name: value for name, value in CALL.items() if name != "answer"}
    [send] = parse(encoded(unanswered), 7)
    assert (send.message_id, send.answer_status) == (f"{send.send_id}.1", None)


@pytest.mark.parametrize(
    "change",
    [
        {"account": "other"},
        {"request": {**CALL["request"], "to": "447700900001"}},
        {"answer": {"status": 202, "body": {"message_uuid": "u2"}}},
        {"requested_at": "2025-02-03T12:14:26Z"},
    ],
)
def test_another_call_gets_another_send_id(change: dict[str, Any]) -> None:
    [send], [other] = parse(encoded(CALL), 7), parse(encoded({**CALL, **change}), 7)
    assert send.send_id != other.send_id


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"1",
        b"\xff",
        b"[" * 100_000,
        b"{}",
        encoded({"sends": {}}),
        encoded({**CALL, "api": "447700900999"}),
        encoded({**CALL, "request": 447700900999}),
        encoded({**CALL, "request": "{447700900999"}),
        encoded({**CALL, "request": ["447700900999"]}),
        encoded({**CALL, "answer": {"status": "447700900999"}}),
        encoded({**CALL, "answer": {"status": 20}}),
        encoded({**CALL, "requested_at": "447700900999"}),
        encoded({**CALL, "answered_at": ""}),
        encoded({**CALL, "send_id": ""}),
        encoded({**CALL, "send_id": "447700900999 x"}),
        encoded({**CALL, "request": {"ttl": 1}}).replace(b'"ttl": 1', b'"ttl": 1e999'),
    ],
)
def test_what_is_malformed_is_said_without_quoting_it(body: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        parse(body, 7)
    assert "447700900999" not in str(caught.value)
    assert str(caught.value).endswith(".")


async def test_malformed_is_400_with_a_sentence_and_stores_nothing(edge: Edge) -> None:
    status, answer = await post(edge, [CALL, {"api": "messages"}])
    assert status == 400
    assert "`request`" in answer["error"]
    assert edge.stored() == 0
    assert edge.count("sends_malformed", route="sends") == 1


@pytest.mark.parametrize("budget_seconds", [0.2])
async def test_without_acknowledgement_503(edge: Edge) -> None:
    edge.log.acknowledging.clear()
    status, _ = await post(edge, CALL)
    assert status == 503
    assert edge.count("kafka_slow", route="sends") == 1


async def test_from_another_host_403(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.sends.is_loopback", lambda remote: False)
    status, _ = await post(edge, CALL)
    assert (status, edge.stored()) == (403, 0)
    assert edge.count("sends_foreign", route="sends") == 1


@pytest.mark.parametrize(
    ("remote", "is_it"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False), ("::ffff:10.0.0.1", False), ("", False), (None, False), ("x", False),
    ],
)  # fmt: skip
def test_loopback(remote: str | None, is_it: bool) -> None:
    assert is_loopback(remote) is is_it


async def test_sends_are_refused_while_draining(edge: Edge) -> None:
    """What comes after the last flush would be acknowledged by nobody."""
    edge.given.draining = True
    status, _ = await post_text(edge, CALL)
    assert status == 503
    assert edge.log.records("test.sends") == []


async def post_text(edge: Edge, body: object) -> tuple[int, str]:
    async with edge.session.post(f"{edge.internal}/sends", json=body) as response:
        return response.status, await response.text()
