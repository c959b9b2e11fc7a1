"""Messages API: status webhooks of v1 and v0.1, for every channel (docs/vonage.md 3).

Both versions carry the same facts. v0.1 has objects for ``to`` and ``from`` and a numeric
``error.code``; one account may get both at once. Sends are in ``messages_send.py``, inbound
messages in ``messages_inbound.py``.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from schemas.events import WORD_LENGTH, Arrival, Event, Fact, Version
from schemas.vonage import status_details as details
from schemas.vonage.fields import (
    address,
    channel,
    from_json,
    mapping,
    message_id,
    price,
    provider_time,
    reference,
    text,
)
from schemas.vonage.messages_send import sends as sends
from schemas.vonage.reasons import NotUnderstoodError, Reason

Kind = Literal["status", "inbound"]

_BLANK = " \t\r\n\0"


class Shape(Struct, gc=False):
    """The keys that tell what a Messages webhook is. Any value is let in: an odd one makes its
    field unknown, nothing more."""

    message_uuid: Any = None
    status: Any = None
    to: Any = None
    sender: Any = field(default=None, name="from")
    channel: Any = None
    message: Any = None
    message_type: Any = None
    text: Any = None


class _Status(Shape, gc=False):
    """The other keys in use."""

    timestamp: Any = None
    error: Any = None
    errors: Any = None
    usage: Any = None
    client_ref: Any = None
    # An early v0.1 specification has it with a hyphen.
    client_ref_hyphen: Any = field(default=None, name="client-ref")
    destination: Any = None
    sms: Any = None
    workflow: Any = None
    links: Any = field(default=None, name="_links")
    whatsapp: Any = None


_decode = msgspec.json.Decoder(_Status).decode


def kind_of(shape: Shape) -> tuple[Kind, Version]:
    """What a Messages webhook is. Raises NotUnderstoodError.

    A status has a ``status``. An inbound message has none; v0.1 puts it in ``message``, v1 has
    ``message_type``, but for SMS, which has only ``text``. v0.1 has objects for ``to`` and
    ``from`` (docs/vonage.md 1); an early specification requires nothing else of an inbound one.
    """
    has_objects = type(shape.to) is dict or type(shape.sender) is dict
    if type(shape.status) is str and shape.status.strip(_BLANK) not in ("", "null"):
        return "status", "v0.1" if has_objects else "v1"
    if type(shape.message) is dict or has_objects:
        return "inbound", "v0.1"
    if shape.message_type is not None or shape.text is not None:
        return "inbound", "v1"
    raise NotUnderstoodError(Reason.NO_STATUS)


def party(value: object) -> str | None:
    """v1: a string. v0.1: ``number``, or ``id`` where the channel has no numbers.

    An example has both at once and the channel sms, so a number counts first; on Messenger the id
    is the address, and ``user_ref`` stands for it in one plugin's events.
    """
    if type(value) is not dict:
        return address(value)
    names = ("number", "id", "user_ref")
    if value.get("type") == "messenger":
        names = ("id", "user_ref", "number")
    return next((found for found in map(address, map(value.get, names)) if found), None)


def decode_status(body: bytes, arrival: Arrival) -> Event:
    """The event of a status of either version. Raises NotUnderstoodError for what is none."""
    given = from_json(_decode, body)
    uuid = message_id(given.message_uuid)
    kind, version = kind_of(given)
    if kind != "status":
        raise NotUnderstoodError(Reason.IS_INBOUND)
    at_us, step_us = provider_time(given.timestamp)
    usage = mapping(given.usage)
    error_code, error_title, error_instance = details.read_error(given.error or given.errors)
    sms = mapping(given.sms)
    workflow = details.NO_WORKFLOW
    if given.workflow or given.links:
        workflow = details.read_workflow(given.workflow, given.links)
    pricing = (
        details.read_pricing(mapping(given.whatsapp)) if given.whatsapp else details.NO_PRICING
    )
    sender, recipient = given.sender, given.to
    ref = given.client_ref if given.client_ref is not None else given.client_ref_hyphen
    return Event(
        uuid,
        Fact(
            kind="status",
            status=_status(given.status),
            code=error_code,
            account=arrival.account or "",
            arrived_at_us=arrival.at_us,
            provider_at_us=at_us,
            provider_step_us=step_us,
            api="messages",
            channel=channel(given.channel) or _type_of(recipient) or _type_of(sender),
            # The common case first: this is the hot path.
            sender=address(sender) if type(sender) is str else party(sender),
            recipient=address(recipient) if type(recipient) is str else party(recipient),
            network=text(mapping(given.destination).get("network_code"), WORD_LENGTH),
            client_ref=reference(ref),
            price_units=price(usage.get("price")),
            currency=text(usage.get("currency"), WORD_LENGTH),
            segments=details.segment_count(sms) if sms else None,
            segments_detail=details.segments_detail(sms.get("segments")) if sms else None,
            workflow_id=workflow.id,
            workflow_item=workflow.item,
            workflow_items=workflow.items,
            error_title=error_title,
            error_instance=error_instance,
            version=version,
            pricing_type=pricing.type,
            pricing_model=pricing.model,
            pricing_category=pricing.category,
            conversation_origin=pricing.origin,
            after_refusal=arrival.after_refusal,
        ),
    )


def _status(value: object) -> str:
    return (text(value, WORD_LENGTH) or "").strip().lower()


def _type_of(value: object) -> str | None:
    return channel(value.get("type")) if type(value) is dict else None
