"""The Messages API as templates, v1 and v0.1: answers, statuses and inbound messages.

Written from the documented examples, by hand. Must not import ``schemas.vonage``: what the parser
misunderstands must not be misunderstood here in the same way.
"""

from __future__ import annotations

from typing import Literal

from sendtrace.simulator.parties import Leg
from sendtrace.simulator.webhook import (
    Told,
    Webhook,
    Workflow,
    millisecond,
    second,
    send_record,
)  # fmt: skip

Version = Literal["v1", "v0.1"]

ERRORS_URL = "https://developer.vonage.com/api-errors/messages"
ERROR_TITLES = {
    "1220": "Handset Busy",
    "1240": "Illegal Number",
    "1260": "Destination unreachable",
    "1280": "Number Blocked by Carrier",
    "1330": "Unknown",
}
# HTTP status, fragment of the problem's type, title, detail.
REFUSALS = (
    (422, "1150", "Invalid params", "The value of one or more parameters is invalid."),
    (429, "1000", "Throttled", "You have exceeded the submission capacity allowed on this account"),
    (402, "1070", "Low balance", "This request could not be performed due to your account balance"),
)
_IMAGE = {"url": "https://example.com/image.jpg"}


def status(
    leg: Leg, message_id: str, told: Told, version: Version, workflow: Workflow | None = None
) -> Webhook:
    """A status of either version. Only v1 knows failover."""
    fields = (
        _status_v1(leg, message_id, told, workflow)
        if version == "v1"
        else _status_v01(leg, message_id, told)
    )
    return Webhook(
        message_id, leg.account, "messages", "status", "json", told.after_seconds, fields
    )


def _status_v1(
    leg: Leg, message_id: str, told: Told, workflow: Workflow | None
) -> dict[str, object]:
    """Whole seconds, usage once it is charged, and what each channel has of its own."""
    name = told.status
    fields: dict[str, object] = {
        "message_uuid": message_id,
        "to": leg.recipient,
        "from": leg.sender,
        "timestamp": second(told.at_us),
        "status": name,
        "channel": leg.channel,
        "client_ref": leg.client_ref,
    }
    if told.code:
        fields["error"] = {
            "type": f"{ERRORS_URL}#{told.code}",
            "title": told.code,
            "detail": ERROR_TITLES[told.code],
            "instance": message_id.replace("-", ""),
        }
    if leg.channel in ("sms", "mms", "rcs"):
        fields["destination"] = {"network_code": leg.network.code}
    if leg.channel == "sms":
        fields["sms"] = _segments(leg.segments, told)
    if leg.channel == "whatsapp" and name == "delivered":
        fields["whatsapp"] = {
            "pricing": {"type": "regular", "pricing_model": "PMP", "category": "utility"},
            "conversation": {"id": "1234567890", "origin": {"type": "business_initiated"}},
        }
    # An RCS status has no usage (docs/vonage.md 3).
    if leg.channel != "rcs" and _is_charged(leg, name):
        fields["usage"] = _usage(leg)
    if workflow is not None:
        fields["workflow"] = {
            "workflow_id": workflow.workflow_id,
            "items_number": str(workflow.item),
            "items_total": str(workflow.items),
        }
    return fields


def _segments(count: int, told: Told) -> dict[str, object]:
    """One callback for all segments. The page on segments has names of its own."""
    if not told.segments_at_us:
        return {"count_total": str(count)}
    segments = [
        {"timestamp": second(at_us), "status": told.status} for at_us in told.segments_at_us
    ]
    return {"total_count": str(count), "segments": segments}


def _status_v01(leg: Leg, message_id: str, told: Told) -> dict[str, object]:
    """Objects for both sides, milliseconds, a number for the code, no channel of its own."""
    fields: dict[str, object] = {
        "message_uuid": message_id,
        "to": _side(leg.channel, leg.recipient),
        "from": _side(leg.channel, leg.sender),
        "timestamp": millisecond(told.at_us),
        "status": told.status,
        "client_ref": leg.client_ref,
    }
    if told.code:
        fields["error"] = {"code": int(told.code), "reason": ERROR_TITLES[told.code]}
    # As captured: the first status has no usage, the second one has.
    if told.status in ("delivered", "read"):
        fields["usage"] = _usage(leg)
    return fields


def inbound(leg: Leg, message_id: str, version: Version, at_us: int) -> Webhook:
    """A message that came in: from the leg's recipient to its sender, of text."""
    fields: dict[str, object] = {"message_uuid": message_id}
    if version == "v0.1":
        fields |= {
            "to": _side(leg.channel, leg.sender),
            "from": _side(leg.channel, leg.recipient),
            "timestamp": millisecond(at_us),
            "message": {"content": {"type": "text", "text": leg.text}},
        }
    else:
        fields |= {
            "channel": leg.channel,
            "to": leg.sender,
            "from": leg.recipient,
            "timestamp": second(at_us),
            "text": leg.text,
        }
        if leg.channel == "sms":
            # Of all channels, SMS alone has no message_type (docs/vonage.md 1).
            keyword = leg.text.split()[0].upper()
            fields["sms"] = {"num_messages": str(leg.segments), "keyword": keyword}
            fields["usage"] = _usage(leg)
        else:
            fields["message_type"] = "text"
    return Webhook(message_id, leg.account, "messages", "inbound", "json", 0.0, fields)


def send(
    leg: Leg,
    message_id: str,
    version: Version,
    times_us: tuple[int, int],
    send_id: str | None = None,
    ttl_seconds: int | None = None,
) -> dict[str, object]:
    """The body of ``POST /sends``: one id, whatever the segments."""
    request = _request(leg, version)
    if ttl_seconds is not None:
        request["ttl"] = ttl_seconds  # in seconds, not as in the SMS API
    answer = (202, {"message_uuid": message_id})
    return send_record("messages", leg.account, request, answer, times_us, send_id)


def failover_send(
    legs: list[Leg], message_id: str, workflow_id: str, times_us: tuple[int, int], send_id: str
) -> dict[str, object]:
    """The same with a list of what to try next. Of all ids the answer has the first only."""
    further = [_request(leg, "v1") for leg in legs[1:]]
    request = _request(legs[0], "v1") | {"failover": further}
    answer = (202, {"message_uuid": message_id, "workflow_id": workflow_id})
    return send_record("messages", legs[0].account, request, answer, times_us, send_id)


def unanswered_send(
    leg: Leg, version: Version, times_us: tuple[int, int], send_id: str
) -> dict[str, object]:
    """The same for a call that no answer came to."""
    return send_record("messages", leg.account, _request(leg, version), None, times_us, send_id)


def refused_send(
    leg: Leg, refusal: int, version: Version, times_us: tuple[int, int], send_id: str
) -> dict[str, object]:
    """The same for a call that Vonage refused, with a problem for an answer."""
    http_status, fragment, title, detail = REFUSALS[refusal]
    problem = {
        "type": f"{ERRORS_URL}#{fragment}",
        "title": title,
        "detail": detail,
        "instance": send_id.replace("-", ""),
    }
    answer = (http_status, problem)
    return send_record("messages", leg.account, _request(leg, version), answer, times_us, send_id)


def _request(leg: Leg, version: Version) -> dict[str, object]:
    is_image = leg.channel == "mms"
    kind = "image" if is_image else "text"
    content: object = _IMAGE if is_image else leg.text
    if version == "v0.1":
        return {
            "client_ref": leg.client_ref,
            "to": _side(leg.channel, leg.recipient),
            "from": _side(leg.channel, leg.sender),
            "message": {"content": {"type": kind, kind: content}},
        }
    return {
        "message_type": kind,
        "channel": leg.channel,
        "from": leg.sender,
        "to": leg.recipient,
        kind: content,
        "client_ref": leg.client_ref,
    }


def _side(channel: str, address: str) -> dict[str, str]:
    """v0.1: Messenger has ids, and Viber another name."""
    if channel == "messenger":
        return {"type": channel, "id": address}
    name = "viber_service_msg" if channel == "viber_service" else channel
    return {"type": name, "number": address}


def _usage(leg: Leg) -> dict[str, str]:
    whole, _, fraction = leg.price.rstrip("0").partition(".")
    return {"currency": "EUR", "price": f"{whole}.{fraction}" if fraction else whole}


def _is_charged(leg: Leg, name: str) -> bool:
    return leg.channel in ("sms", "mms") or name in ("delivered", "read")
