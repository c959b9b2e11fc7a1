"""Parts of a Messages status that have several shapes: error, segments, workflow, pricing.

Every alias that a specification, an SDK or a documentation page has is read (docs/vonage.md 3).
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from schemas.events import INSTANCE_LENGTH, MAX_SEGMENTS, Segment
from schemas.vonage.fields import code, count, ident, mapping, provider_time, text, whole, word
from schemas.vonage.problem import problem_code


def segment_count(sms: dict[str, Any]) -> int | None:
    """``count_total`` (the specification) or ``total_count`` (the page on segments), or a list."""
    for name in ("count_total", "total_count"):
        total = count(sms.get(name))
        if total is not None:
            return total
    parts = sms.get("segments")
    return len(parts) if type(parts) is list else None


def segments_detail(value: object) -> tuple[Segment, ...] | None:
    """Status and time of each SMS of a long message; what is not told is empty."""
    if type(value) is not list or not value:
        return None
    return tuple(_segment(mapping(item)) for item in value[:MAX_SEGMENTS])


def _segment(item: dict[str, Any]) -> Segment:
    at_us, step_us = provider_time(item.get("timestamp"))
    status = (text(item.get("status"), 32) or "").strip().lower()
    return Segment(status, at_us or 0, step_us or 0)


class Workflow(Struct, frozen=True, gc=False):
    """Which item of which failover a message is."""

    id: str | None = None
    item: int | None = None
    items: int | None = None


NO_WORKFLOW = Workflow()


def read_workflow(given: object, links: object) -> Workflow:
    """Failover: by the names of the specification and of the Java SDK; v0.1 has links instead."""
    told = mapping(given)
    if not told:
        linked = mapping(links)
        dispatch = mapping(linked.get("dispatch")).get("dispatch_uuid")
        return Workflow(ident(dispatch or mapping(linked.get("workflow")).get("workflow_uuid")))
    get = told.get
    return Workflow(
        ident(get("workflow_id")) or ident(get("id")),
        _known(count(get("items_number")), count(get("item_number"))),
        _known(count(get("items_total")), count(get("total_items"))),
    )


def _known(one: int | None, other: int | None) -> int | None:
    return other if one is None else one


class Pricing(Struct, frozen=True, gc=False):
    """What WhatsApp charges for."""

    type: str | None = None
    model: str | None = None
    category: str | None = None
    origin: str | None = None


NO_PRICING = Pricing()


def read_pricing(whatsapp: dict[str, Any]) -> Pricing:
    """WhatsApp's ``delivered`` says what is charged, and by which model."""
    pricing = mapping(whatsapp.get("pricing"))
    origin = mapping(mapping(whatsapp.get("conversation")).get("origin"))
    return Pricing(
        word(pricing.get("type")),
        word(pricing.get("pricing_model")),
        word(pricing.get("category")),
        word(origin.get("type")),
    )


def read_error(value: object) -> tuple[str, str | None, str | None]:
    """Code, text and instance of ``error``.

    v1: ``title`` is the code as a string or a number; where it is text, the fragment of ``type``
    has it. v0.1 and an early revision of v1: ``code`` and ``reason``. One SDK's fixture nests a
    second ``error``, and one text has a list (docs/vonage.md 3).
    """
    if type(value) is list:
        value = next((item for item in value if type(item) is dict), None)
    if type(value) is not dict or not value:
        return "", None, None
    error: dict[str, Any] = value
    if "error" in error:
        error = mapping(error["error"]) or error
    get = error.get
    title = text(get("title"))
    detail = text(get("detail")) or text(get("reason"))
    instance = text(get("instance"), INSTANCE_LENGTH)
    number = title.strip() if title is not None else ""
    if number.isdigit() and whole(number) is not None:
        return number.lstrip("0"), detail, instance
    if whole(get("code")) is not None:
        return code(get("code")), title or detail, instance
    return problem_code(get("type")), title or detail, instance
