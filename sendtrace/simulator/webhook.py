"""A webhook as Vonage means it, and the HTTP request that carries it: JSON, form or query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import urlencode

import msgspec

Api = Literal["messages", "sms", "alerts"]
Kind = Literal["status", "delivery-receipt", "inbound"]
Shape = Literal["json", "form", "get"]

SHAPES: tuple[Shape, ...] = ("json", "form", "get")
ROOT = "/webhooks"

_encode = msgspec.json.Encoder().encode
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Told:
    """What one webhook says about a message, and when by Vonage's clock."""

    status: str
    code: str
    at_us: int
    after_seconds: float = 0.0  # when it goes out, counted from the answer to the send
    segments_at_us: tuple[int, ...] = ()  # of a long SMS, where Vonage tells them
    has_backslashes: bool = False  # in its time, as a document of the Alerts API shows it


@dataclass(frozen=True)
class Workflow:
    """The place of a message in a failover."""

    workflow_id: str
    item: int  # 1 is the message that was asked for
    items: int


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

    def delayed(self, seconds: float) -> Webhook:
        """The same later, so that what was told after it may come before."""
        return replace(self, after_seconds=self.after_seconds + seconds)


@dataclass(frozen=True)
class Request:
    """One attempt. What may hold a secret or a number is not shown."""

    method: Literal["GET", "POST"]
    path: str = field(repr=False)
    query: str = field(default="", repr=False)
    body: bytes = field(default=b"", repr=False)
    content_type: str | None = None
    authorization: str | None = field(default=None, repr=False)
    shown_path: str = ""  # without a secret


def request(
    webhook: Webhook, *, token: str = "", more: Mapping[str, object] | None = None
) -> Request:
    """The request without a signature. ``token`` is a segment of the path, as in the URL that is
    configured at Vonage; ``more`` are fields of this attempt alone."""
    shown = f"{ROOT}/{webhook.kind}"
    path = f"{ROOT}/{token}/{webhook.kind}" if token else shown
    fields = {**webhook.fields, **more} if more else webhook.fields
    match webhook.shape:
        case "get":
            return Request("GET", path, query=urlencode(fields), shown_path=shown)
        case "form":
            # With a parameter, as it was captured (docs/vonage.md 1).
            form = "application/x-www-form-urlencoded; charset=UTF-8"
            body = urlencode(fields).encode()
            return Request("POST", path, body=body, content_type=form, shown_path=shown)
        case "json":
            body = _encode(fields)
            return Request(
                "POST", path, body=body, content_type="application/json", shown_path=shown
            )


def moment(at_us: int, after_seconds: float = 0.0) -> datetime:
    """So long after ``at_us``, which counts microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=at_us, seconds=after_seconds)


def second(at_us: int) -> str:
    """As v1 of the Messages API writes it."""
    return moment(at_us).strftime("%Y-%m-%dT%H:%M:%SZ")


def millisecond(at_us: int) -> str:
    """As v0.1 writes it."""
    when = moment(at_us)
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


def send_record(
    api: Api,
    account: str,
    request_fields: Mapping[str, object],
    answer: tuple[int, object] | None,
    times_us: tuple[int, int],
    send_id: str | None,
) -> dict[str, object]:
    """The body of ``POST /sends``: what was asked when, and what was answered when, if anything."""
    requested_at, answered_at = (
        moment(at_us).isoformat(timespec="microseconds").replace("+00:00", "Z")
        for at_us in times_us
    )
    record: dict[str, object] = {
        "api": api,
        "account": account,
        "request": request_fields,
        "requested_at": requested_at,
    }
    if answer is not None:
        status, body = answer
        record |= {"answer": {"status": status, "body": body}, "answered_at": answered_at}
    return record | ({"send_id": send_id} if send_id else {})
