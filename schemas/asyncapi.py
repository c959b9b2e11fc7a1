"""The topics as AsyncAPI 3, made from the registry of topics and the structs of their values.

    python -m schemas.asyncapi > docs/asyncapi.json

Must: say of every topic what its key, headers and values are, so that another service can
subscribe without reading our code. JSON Schema is draft 07, which every AsyncAPI tool reads.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from msgspec import Struct

from schemas import codec, topics
from schemas.events import Erase, Revoke, Send, Verified
from schemas.lifecycle import Lifecycle
from schemas.pulses import Pulse
from schemas.replayed import Replayed
from schemas.rollup import Part, Rollup
from schemas.topics import TOPICS, Topic
from schemas.totals import PositionsRecord, TotalsKey, TotalsRecord

ASYNCAPI = "3.0.0"
# Of this contract, not of the program.
VERSION = "1.0.0"
_JSON = "application/json"
# The defaults of SENDTRACE_TOPIC_PREFIX and SENDTRACE_PARTITIONS; a test holds them equal.
PREFIX, PARTITIONS = "sendtrace.", 12


class Message(Struct, frozen=True, kw_only=True):
    """One kind of record. Without a ``value`` the bytes are not ours: Vonage's, unchanged."""

    name: str
    summary: str
    ce_types: tuple[str, ...] = ()
    value: type[Struct] | None = None
    is_tombstone: bool = False
    headers: Mapping[str, str] = {}  # beside CloudEvents': name and meaning


_AFTER_REFUSAL = {"ce_afterrefusal": "`true`: came while, or soon after, the edge refused"}
_REPLAYED = {"st_replayed": "`quarantine-<partition>-<offset>`: put through again from there"}
_QUARANTINED = {
    "reason": "why it could not be used",
    "st_origin": "topic, partition and offset, where a processor put it aside",
}
_REASON = {"reason": "`expired`: nothing more is expected; `forgotten`: it is to be deleted"}


def _bytes(name: str, summary: str, *ce_types: str, **headers: str) -> Message:
    return Message(name=name, summary=summary, ce_types=ce_types, headers=headers)


def _ours(value: type[Struct], summary: str, *ce_types: str, **headers: str) -> Message:
    return Message(
        name=value.__name__, summary=summary, ce_types=ce_types, value=value, headers=headers
    )


def _tombstone(name: str) -> Message:
    return Message(
        name=name, summary="No value: the key is gone", is_tombstone=True, headers=_REASON
    )


MESSAGES: Mapping[str, tuple[Message, ...]] = {
    topics.SENDS: (
        _ours(Send, "One message as it was sent", codec.TYPE_SEND, **_REPLAYED),
        _ours(Revoke, "Vonage was asked to take it back", codec.TYPE_REVOKE),
        _ours(Erase, "Its person is to be forgotten", codec.TYPE_ERASE),
    ),
    topics.STATUSES: (
        _bytes("Status", "A status webhook, as it came", codec.TYPE_STATUS,
               codec.TYPE_STATUS_V01, **_AFTER_REFUSAL, **_REPLAYED),
    ),
    topics.RECEIPTS: (
        _bytes("Receipt", "A receipt: body or query string, as it came", codec.TYPE_RECEIPT,
               **_AFTER_REFUSAL, **_REPLAYED),
    ),
    topics.INBOUND: (
        _bytes("Inbound", "A message that came in, as it came", codec.TYPE_INBOUND,
               codec.TYPE_INBOUND_V01, codec.TYPE_SMS_INBOUND, **_AFTER_REFUSAL, **_REPLAYED),
    ),
    topics.QUARANTINE: (
        _bytes("Quarantined", "Bytes that could not be used, under the headers they had",
               **_QUARANTINED),
        _ours(Replayed, "Which of these bytes were put through again", codec.TYPE_REPLAYED),
    ),
    topics.PULSES: (_ours(Pulse, "An edge takes webhooks", codec.TYPE_PULSE),),
    topics.LIFECYCLES: (
        _ours(Lifecycle, "Everything known about one message"), _tombstone("LifecycleGone"),
    ),
    topics.PARTS: (_ours(Part, "One message of several, as it stood"),),
    topics.ROLLUPS: (
        _ours(Rollup, "All messages of one send or workflow"), _tombstone("RollupGone"),
    ),
    topics.TOTALS: (
        _ours(TotalsRecord, "All counters of one label set, as they stand"),
        _ours(PositionsRecord, "Key `@positions`: how far a task has read its inputs. Values of "
              "other keys with @ are its own memory"),
    ),
}  # fmt: skip

# The structs that other programs, and our own of one version before, read.
VALUES = tuple(m.value for messages in MESSAGES.values() for m in messages if m.value is not None)

_CLOUD_EVENTS: Mapping[str, Mapping[str, Any]] = {
    "ce_specversion": {"const": "1.0"},
    "ce_id": {"type": "string", "description": "hash of method, path and bytes"},
    "ce_source": {"type": "string", "description": "`//<account><path>`, or the path alone"},
    "ce_time": {"type": "string", "format": "date-time", "description": "arrival, microseconds"},
    "ce_verified": {"enum": list(get_args(Verified)), "description": "what proved the sender"},
    "content-type": {"type": "string", "description": "as received"},
}
_CE_REQUIRED = ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_verified"]


def document() -> dict[str, Any]:
    """The whole description."""
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "sendtrace topics",
            "version": VERSION,
            "description": "What became of every message sent through Vonage. Keys are "
            "partitioned with murmur2. Fields are added and never change; a reader passes over "
            "those it does not know. A field that is absent has its default. Read with "
            "isolation.level=read_committed.",
        },
        "defaultContentType": _JSON,
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _channel(topic: Topic) -> dict[str, Any]:
    config: dict[str, Any] = {
        name: int(value) if value.isdigit() else value for name, value in topic.config.items()
    }
    return {
        "address": PREFIX + topic.name,
        "description": f"{topic.value}. Key: {topic.key}.",
        "messages": {
            message.name: {"$ref": f"#/components/messages/{message.name}"}
            for message in MESSAGES[topic.name]
        },
        "bindings": {
            "kafka": {
                "partitions": PARTITIONS * topic.stages,
                "topicConfiguration": {**config, "cleanup.policy": [topic.cleanup]},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _operations() -> dict[str, Any]:
    """sendtrace writes every topic. Others may write `sends`: their own capture of a call."""
    written = {f"write_{topic.name}": ("send", topic.name) for topic in TOPICS}
    read = {f"read_{topics.SENDS}": ("receive", topics.SENDS)}
    return {
        name: {"action": action, "channel": {"$ref": f"#/channels/{topic}"}}
        for name, (action, topic) in {**written, **read}.items()
    }


def _messages() -> dict[str, Any]:
    return {
        message.name: _message(topic, message)
        for topic in TOPICS
        for message in MESSAGES[topic.name]
    }


def _message(topic: Topic, message: Message) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": message.name,
        "summary": message.summary,
        "headers": _headers(message),
        "payload": _payload(message),
    }
    if message.value is not None:
        told["contentType"] = _JSON
    if topic.name != topics.QUARANTINE:  # the key that it had, or none
        told["bindings"] = {"kafka": {"key": _key(topic), "bindingVersion": "0.5.0"}}
    return told


def _key(topic: Topic) -> dict[str, Any]:
    if topic.name != topics.TOTALS:
        return {"type": "string", "description": topic.key}
    # Not by reference: the Kafka binding's schema does not allow one here.
    [key] = msgspec.json.schema(TotalsKey)["$defs"].values()
    told: dict[str, Any] = _draft_07(key)
    return told


def _headers(message: Message) -> dict[str, Any]:
    """CloudEvents' binary mode on what the edge writes. The processors' records have none of it:
    they are states, not events."""
    extra = {
        name: {"type": "string", "description": meaning}
        for name, meaning in message.headers.items()
    }
    if message.ce_types:
        told = {**_CLOUD_EVENTS, "ce_type": {"enum": list(message.ce_types)}}
        return {"type": "object", "required": _CE_REQUIRED, "properties": {**told, **extra}}
    return {"type": "object", "properties": extra}


def _payload(message: Message) -> dict[str, Any]:
    if message.is_tombstone:
        return {"type": "null"}
    if message.value is None:
        return {"description": "Bytes, unchanged. What they are: header `content-type`"}
    return {"$ref": f"#/components/schemas/{message.value.__name__}"}


def _schemas() -> dict[str, Any]:
    _, components = msgspec.json.schema_components(
        VALUES, ref_template="#/components/schemas/{name}"
    )
    told: dict[str, Any] = _draft_07(components)
    return dict(sorted(told.items()))


def _draft_07(schema: Any) -> Any:
    """msgspec writes draft 2020-12; of what it uses, tuples have another name in draft 07."""
    if isinstance(schema, list):
        return [_draft_07(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    told = {name: _draft_07(value) for name, value in schema.items()}
    if "prefixItems" in told:
        rest = told.pop("items", True)
        told["items"] = told.pop("prefixItems")
        if rest is not True:
            told["additionalItems"] = rest
    if isinstance(told.get("description"), str):
        told["description"] = inspect.cleandoc(told["description"])
    return told


def rendered() -> str:
    """The text of docs/asyncapi.json."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(rendered())
