"""The golden corpus as traffic: each row as the HTTP request that brings it, and what must follow.

What follows is read from ``corpus_golden.jsonl``, which was worked out by hand. Rows are of API
calls or of webhooks; a call's row has only its request or only its answer, so the other half is
given here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from schemas.events import Fact, Send
from schemas.lifecycle import Outcome
from schemas.vonage.sms import FORM

_DATA = Path(__file__).parent / "data"
_JSON = "application/json"
_PATHS = {
    "messages_status": "/webhooks/status",
    "messages_inbound": "/webhooks/inbound",
    "sms_inbound": "/webhooks/inbound",
    "sms_dlr": "/webhooks/dlr",
    "alert_dlr": "/webhooks/dlr",
}

Fate = Literal["status", "receipt", "inbound", "quarantine", "request", "answer", "no send"]
_FATES: dict[str, Fate] = {
    "status": "status",
    "receipt": "receipt",
    "inbound": "inbound",
    "quarantine": "quarantine",
    "send_request": "request",
    "send_answer": "answer",
    "error": "answer",
    # A PATCH takes a message back, or marks one as read: it asks for no message.
    "send_update": "no send",
}


class Row(Struct, frozen=True):
    """One row. ``golden`` is its normalised event."""

    number: int
    kind: str
    form: Literal["json", "form", "query", "xml"]
    body: str
    source: str
    golden: dict[str, Any]

    @property
    def fate(self) -> Fate:
        return _FATES[self.golden["kind"]]


def _read() -> Iterator[Row]:
    rows = (_DATA / "corpus.jsonl").read_text().splitlines()
    golden = (_DATA / "corpus_golden.jsonl").read_text().splitlines()
    for number, (line, told) in enumerate(zip(rows, golden, strict=True)):
        row = json.loads(line)
        yield Row(
            number, row["kind"], row["format"], row["body"], row["source"],
            json.loads(told)["event"],
        )  # fmt: skip


ROWS = tuple(_read())
WEBHOOKS = tuple(row for row in ROWS if row.kind in _PATHS)
EVENTS = tuple(row for row in WEBHOOKS if row.fate in ("status", "receipt"))
REQUESTS = tuple(row for row in ROWS if row.fate == "request")
ANSWERS = tuple(row for row in ROWS if row.fate == "answer")


# -- webhooks ------------------------------------------------------------------------------------


class Webhook(Struct, frozen=True):
    """One request to the public port. A receipt by GET has its fields in the query."""

    method: Literal["GET", "POST"]
    target: str
    content_type: str | None
    body: bytes

    @property
    def stored(self) -> bytes:
        """The bytes that must stand in Kafka."""
        return self.body or self.target.partition("?")[2].encode()


def webhook(row: Row, body: str | None = None) -> Webhook:
    body = row.body if body is None else body
    path = _PATHS[row.kind]
    if row.form == "query":
        return Webhook("GET", f"{path}?{body}", None, b"")
    return Webhook("POST", path, _JSON if row.form == "json" else FORM, body.encode())


def with_own_id(row: Row) -> tuple[str, str]:
    """An id that no other row has, and the body with it: nothing else is encoded anew."""
    own = f"row-{row.number}"
    return own, row.body.replace(row.golden["message_id"], own)


def fact_of(row: Row, arrived_at_us: int, golden: dict[str, Any] | None = None) -> Fact:
    """The fact that the golden event is. Nothing in a receipt says that it is the Alerts API's."""
    fields = {**(golden or row.golden), "arrived_at_us": arrived_at_us}
    del fields["message_id"]
    if fields["api"] == "alerts":
        fields["api"] = "sms_or_alerts"
    return msgspec.convert(fields, Fact, strict=True)


OUTCOMES: dict[str, Outcome] = {
    "read": "read",
    "delivered": "delivered",
    "failed": "failed",
    "expired": "expired",
    "submitted": "pending",
    "accepted": "pending",
    "unexpected": "unknown",
}


# -- calls ---------------------------------------------------------------------------------------

# The half that a row does not have. The Alerts API has a template in place of sender and text.
_PLAIN_REQUEST: dict[str, dict[str, Any]] = {
    "messages": {"channel": "sms", "from": "Acme", "to": "447700900000", "message_type": "text"},
    "sms": {"from": "Acme", "to": "447700900000"},
    "alerts": {"to": "447700900000", "template": "2"},
}
_PLAIN_SEND: dict[str, dict[str, Any]] = {
    "messages": {"version": "v1", "channel": "sms", "sender": "Acme", "message_type": "text"},
    "sms": {"channel": "sms", "sender": "Acme"},
    "alerts": {"channel": "sms", "template": "2", "receipt_expected": False},
}


def _call(
    api: str, request: bytes, status: int, answer: bytes, send_id: str | None = None
) -> bytes:
    """A body of ``POST /sends``; request and answer stand in it as they are."""
    told = b'"send_id":"%b",' % send_id.encode() if send_id else b""
    return b'{"api":"%b",%b"request":%b,"answer":{"status":%d,"body":%b}}' % (
        api.encode(), told, request, status, answer,
    )  # fmt: skip


def raw(row: Row, body: str | None = None) -> bytes:
    """JSON as it is; a form, a query or XML as the text of it."""
    body = row.body if body is None else body
    return body.encode() if row.form == "json" else json.dumps(body).encode()


def _accepted(api: str, message_id: str) -> tuple[int, bytes]:
    if api == "messages":
        return 202, json.dumps({"message_uuid": message_id}).encode()
    part = {"message-id": message_id, "status": "0"}
    return 200, json.dumps({"message-count": "1", "messages": [part]}).encode()


def http_status(row: Row) -> int:
    """The HTTP status of an answer: where the row comes from tells it, or its API."""
    told = re.search(r"response/(\d{3})$", row.source)
    if told:
        return int(told[1])
    if row.golden["kind"] == "error":
        return 422
    return 202 if row.golden["api"] == "messages" else 200


def request_alone(row: Row) -> tuple[bytes, list[Send]]:
    """A request, accepted under an id of its own, and the send that follows."""
    api, own = row.golden["api"], f"row-{row.number}"
    status, answer = _accepted(api, own)
    fields = {k: v for k, v in row.golden.items() if k not in ("kind", "message_id")}
    send = Send(
        message_id=own,
        send_id=f"send-{row.number}",
        arrived_at_us=0,
        account=fields.pop("claimed_account", None),
        answer="accepted",
        answer_status="202" if api == "messages" else "0",
        http_status=status,
        **fields,
    )
    return _call(api, raw(row), status, answer, send.send_id), [send]


def answer_alone(row: Row) -> tuple[bytes, list[Send]]:
    """An answer to a plain request, with ids of its own, and the sends that follow."""
    api, status, body = row.golden["api"], http_status(row), row.body
    sends: list[Send] = []
    groups: list[str] = []  # by recipient: each is a send of its own
    parts = _parts(row, status)
    for number, part in enumerate(parts, start=1):
        recipient = part.get("recipient") or "447700900000"
        if recipient not in groups:
            groups.append(recipient)
        group = groups.index(recipient) + 1
        send_id = f"send-{row.number}" + (f"-{group}" if group > 1 else "")
        place = sum(send.send_id == send_id for send in sends) + 1
        old = part.pop("message_id", None)
        own = f"row-{row.number}-{number}" if old else f"{send_id}.{place}"
        if old:
            body = body.replace(old, own)
        sends.append(
            Send(
                message_id=own, send_id=send_id, api=api, arrived_at_us=0, part=place,
                http_status=status, refused=part["answer"] in ("refused", "throttled"),
                **{**_PLAIN_SEND[api], **part, "recipient": recipient},
            )
        )  # fmt: skip
    of_send = [send.send_id for send in sends]
    sends = [msgspec.structs.replace(s, parts=of_send.count(s.send_id)) for s in sends]
    request = json.dumps(_PLAIN_REQUEST[api]).encode()
    return _call(api, request, status, raw(row, body), f"send-{row.number}"), sends


def _parts(row: Row, status: int) -> list[dict[str, Any]]:
    """What the golden answer says of each message, in the names of a send."""
    golden = row.golden
    if golden["kind"] == "error":
        is_sms = golden["api"] == "sms"
        told = {"code": "error_code", "text": "error_text", "instance": "error_instance"}
        return [
            {
                "answer": "throttled" if status == 429 else "refused",
                "answer_status": f"http-{status}" if is_sms else str(status),
                **{ours: golden[name] for name, ours in told.items() if name in golden},
            }
        ]
    parts = []
    for message in golden.get("messages", [golden]):
        part = {k: v for k, v in message.items() if k not in ("kind", "api", "messages")}
        if golden["api"] == "messages":
            part["status"] = str(status)
        if "status" in part:
            part["answer_status"] = part.pop("status")
        parts.append(part)
    return parts


def outcome_of_send(send: Send) -> Outcome:
    """Of a send alone. A callback to another's host, or none asked for: nothing is to come."""
    if send.refused:
        return "refused"
    if send.answer == "unreadable" and send.message_id == f"{send.send_id}.{send.part}":
        return "unanswered"
    if not send.receipt_expected or send.callback_host is not None:
        return "untracked"
    return "pending"


def calls_unchanged() -> Iterator[bytes]:
    """Every request and every answer as it is: each beside one of the other half, of its API."""
    for api in ("messages", "sms", "alerts"):
        # The corpus has no request of the Alerts API; it is of the SMS API's form.
        asked = [row for row in REQUESTS if row.golden["api"] == api] or [
            row for row in REQUESTS if row.golden["api"] == "sms"
        ]
        told = [row for row in ANSWERS if row.golden["api"] == api]
        number = max(len(told), len(asked) if api != "alerts" else 0)
        for _, request, answer in zip(range(number), cycle(asked), cycle(told), strict=False):
            yield _call(api, raw(request), http_status(answer), raw(answer))
