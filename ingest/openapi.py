"""The edge's routes as OpenAPI 3.1, made from the table of answers.

    python -m ingest.openapi > docs/openapi.json

One description for both ports: the internal one has its own ``servers`` entry at each path.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Literal, get_args

from msgspec import Struct

from ingest import errors
from ingest.errors import Answer
from schemas.vonage.sends import SentBy

OPENAPI = "3.1.0"
# Of this contract, not of the program.
VERSION = "1.0.0"
_PUBLIC = "http://127.0.0.1:8080"
_INTERNAL = "http://127.0.0.1:8081"

# What any request for a webhook may meet.
_ALWAYS = (
    errors.IN_FLIGHT_FULL, errors.DRAINING, errors.CROWDED, errors.FAULT, errors.KAFKA_SLOW,
    errors.KAFKA_FAILED, errors.MALFORMED,
)  # fmt: skip
_BODY = (errors.BODY_SLOW, errors.BODY_BROKEN, errors.TOO_LARGE)
_VERIFIED = tuple(errors.REFUSALS.values())


class Route(Struct, frozen=True):
    """One operation, with every answer it can give."""

    path: str
    method: Literal["get", "post"]
    port: Literal["public", "internal"]
    summary: str
    answers: tuple[Answer, ...]


_TAKEN = (errors.ACCEPTED, errors.QUARANTINED)
_WEBHOOK_GET = (*_TAKEN, errors.PROBE, *_VERIFIED, *_ALWAYS)
_WEBHOOK_POST = (*_TAKEN, *_VERIFIED, *_ALWAYS, *_BODY)
_SENDS = (
    errors.SENDS_ACCEPTED, errors.SENDS_MALFORMED, errors.SENDS_UNAUTHORIZED, errors.SENDS_FOREIGN,
    errors.IN_FLIGHT_FULL, errors.KAFKA_SLOW, errors.KAFKA_FAILED, errors.FAULT, *_BODY,
)  # fmt: skip

ROUTES: tuple[Route, ...] = (
    Route("/webhooks/{rest}", "get", "public", "A webhook in the query string", _WEBHOOK_GET),
    Route("/webhooks/{rest}", "post", "public", "A webhook in the body", _WEBHOOK_POST),
    Route("/sends", "post", "internal", "What was sent, and what Vonage answered", _SENDS),
    Route("/livez", "get", "internal", "Whether the process lives",
          (errors.HEALTHY, errors.UNHEALTHY)),
    Route("/readyz", "get", "internal", "Whether it takes webhooks",
          (errors.HEALTHY, errors.UNHEALTHY)),
    Route("/metrics", "get", "internal", "The edge's own figures", (errors.METRICS,)),
)  # fmt: skip
# No route has these: a path or a method that is none.
ELSEWHERE = (errors.NOT_FOUND, errors.METHOD)


def document() -> dict[str, Any]:
    """The whole description."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        item = paths.setdefault(route.path, _path_item(route))
        item[route.method] = _operation(route)
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "sendtrace edge",
            "version": VERSION,
            "summary": "Takes Vonage's webhooks and an application's send records",
            "description": "Other paths and methods: "
            + "; ".join(f"{row.http_status} `{row.name}`, {row.when}" for row in ELSEWHERE),
        },
        "servers": [{"url": _PUBLIC, "description": "webhooks: the public port"}],
        "paths": paths,
        "components": {
            "schemas": {"Sends": _SENDS_SCHEMA, "Call": _CALL_SCHEMA, "Accepted": _ACCEPTED_SCHEMA},
            "securitySchemes": {
                "vonage": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Messages API; the SMS API signs with the parameter `sig`",
                },
                "sends": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _path_item(route: Route) -> dict[str, Any]:
    item: dict[str, Any] = {}
    if route.port == "internal":
        item["servers"] = [{"url": _INTERNAL, "description": "the internal port"}]
    if "{rest}" in route.path:
        item["parameters"] = [
            {
                "name": "rest",
                "in": "path",
                "required": True,
                "description": "anything, slashes included; first a token where one is required",
                "schema": {"type": "string"},
            }
        ]
    return item


def _operation(route: Route) -> dict[str, Any]:
    name = route.path.strip("/").partition("/")[0]
    operation: dict[str, Any] = {
        "operationId": f"{route.method}_{name}",
        "summary": route.summary,
        "responses": _responses(route.answers, route.path),
    }
    if route.method == "post":
        content = _SENDS_CONTENT if route.path == "/sends" else _ANY_CONTENT
        is_send = route.path == "/sends"
        operation["requestBody"] = {"content": content, "required": is_send}
    if route.path == "/sends":
        operation["security"] = [{"sends": []}, {}]
    elif route.port == "public":
        operation["security"] = [{"vonage": []}, {}]
    return operation


def _responses(answers: tuple[Answer, ...], path: str) -> dict[str, Any]:
    by_status: dict[str, list[Answer]] = {}
    for answer in answers:
        by_status.setdefault(str(answer.http_status), []).append(answer)
    responses: dict[str, Any] = {}
    for status, rows in sorted(by_status.items()):
        told = "; ".join(f"`{row.name}`: {row.when}" for row in rows)
        responses[status] = {"description": told}
        if status != "200":
            names = [row.name for row in rows]
            schema = {"type": "string", "description": f"one of {', '.join(names)}, and a newline"}
            responses[status]["content"] = {"text/plain": {"schema": schema}}
    if path == "/sends":
        accepted = {"$ref": "#/components/schemas/Accepted"}
        error = {"type": "object", "properties": {"error": {"type": "string"}}}
        responses["200"]["content"] = {"application/json": {"schema": accepted}}
        responses["400"]["content"] = {"application/json": {"schema": error}}
    return responses


_ANY_CONTENT: Mapping[str, Any] = {
    "application/json": {"schema": {}},
    "application/x-www-form-urlencoded": {"schema": {}},
}
_SENDS_CONTENT: Mapping[str, Any] = {
    "application/json": {"schema": {"$ref": "#/components/schemas/Sends"}}
}
_CALL: Mapping[str, str] = {"$ref": "#/components/schemas/Call"}
_SENDS_SCHEMA: Mapping[str, Any] = {
    "oneOf": [
        _CALL,
        {"type": "array", "items": _CALL},
        {
            "type": "object",
            "required": ["sends"],
            "properties": {"sends": {"type": "array", "items": _CALL}},
        },
    ]
}
_CALL_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["api", "request"],
    "properties": {
        "api": {"enum": list(get_args(SentBy))},
        "request": {
            "type": ["object", "string"],
            "description": "JSON, or a form or query as text. Text and credentials are not read",
        },
        "answer": {
            "type": ["object", "null"],
            "description": "null: none came",
            "required": ["status"],
            "properties": {
                "status": {"type": "integer", "minimum": 100, "maximum": 599},
                "body": {"description": "JSON, or text that is JSON or XML"},
            },
        },
        "account": {"type": ["string", "null"], "maxLength": 128},
        "application": {"type": ["string", "null"], "maxLength": 128},
        "host": {"type": ["string", "null"], "maxLength": 128},
        "requested_at": {"type": ["string", "null"], "format": "date-time"},
        "answered_at": {"type": ["string", "null"], "format": "date-time"},
        "send_id": {"type": ["string", "null"], "minLength": 1, "maxLength": 128},
    },
}
_ACCEPTED_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["accepted"],
    "properties": {
        "accepted": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["message_id", "send_id"],
                "properties": {"message_id": {"type": "string"}, "send_id": {"type": "string"}},
            },
        }
    },
}


def rendered() -> str:
    """The text of docs/openapi.json."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(rendered())
