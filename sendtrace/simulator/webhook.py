"""A webhook as Vonage means it, and the HTTP request that carries it: JSON, form or query."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import urlencode

Api = Literal["messages", "sms", "alerts"]
Kind = Literal["status", "delivery-receipt", "inbound"]
Shape = Literal["json", "form", "get"]

SHAPES: tuple[Shape, ...] = ("json", "form", "get")
ROOT = "/webhooks"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Webhook:
    """One thing that Vonage tells an account. How it proves that it is Vonage comes later, anew
    for each attempt (``credentials.py``)."""

    message_id: str
    account: str
    api: Api
    kind: Kind
    shape: Shape
    after_seconds: float  # after the answer to the send
    fields: Mapping[str, object]
    is_repeat: bool = False

    def repeated(self, seconds_later: float) -> Webhook:
        """The same once more, as after an answer that Vonage did not see."""
        return replace(self, after_seconds=self.after_seconds + seconds_later, is_repeat=True)


@dataclass(frozen=True)
class Request:
    """One attempt. What may hold a secret or a number is not shown."""

    method: Literal["GET", "POST"]
    path: str = field(repr=False)
    query: str = field(default="", repr=False)
    body: bytes = field(default=b"", repr=False)
    content_type: str | None = None
    authorization: str | None = field(default=None, repr=False)


def request(
    webhook: Webhook, *, token: str = "", more: Mapping[str, object] | None = None
) -> Request:
    """The request without a signature. ``token`` is a segment of the path, as in the URL that is
    configured at Vonage; ``more`` are fields of this attempt alone."""
    path = "/".join(filter(None, (ROOT, token, webhook.kind)))
    fields = {**webhook.fields, **(more or {})}
    match webhook.shape:
        case "get":
            return Request("GET", path, query=urlencode(fields))
        case "form":
            # With a parameter, as it was captured (FACTS section 1).
            form = "application/x-www-form-urlencoded; charset=UTF-8"
            return Request("POST", path, body=urlencode(fields).encode(), content_type=form)
        case "json":
            body = json.dumps(fields, separators=(",", ":")).encode()
            return Request("POST", path, body=body, content_type="application/json")


def moment(at_us: int, after_seconds: float) -> datetime:
    """So long after ``at_us``, which counts microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=at_us, seconds=after_seconds)


def send_record(
    api: Api,
    account: str,
    request_fields: Mapping[str, object],
    answer: tuple[int, object],
    times_us: tuple[int, int],
    send_id: str | None,
) -> dict[str, object]:
    """The body of ``POST /sends``: what was asked when, and what was answered when."""
    requested_at, answered_at = (
        moment(at_us, 0.0).isoformat().replace("+00:00", "Z") for at_us in times_us
    )
    status, body = answer
    record: dict[str, object] = {
        "api": api,
        "account": account,
        "request": request_fields,
        "answer": {"status": status, "body": body},
        "requested_at": requested_at,
        "answered_at": answered_at,
    }
    return record | ({"send_id": send_id} if send_id else {})
