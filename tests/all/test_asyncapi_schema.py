"""docs/asyncapi.json against AsyncAPI's own schema, and real records against the document."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from jsonschema import Draft7Validator

from processors.join.derive import summarise
from processors.join.policy import Policy
from schemas import codec

from strategies import Told, fold, histories_with_erase

ROOT = Path(__file__).parents[2]
DOCUMENT = json.loads((ROOT / "docs/asyncapi.json").read_text())


@pytest.fixture(scope="module")
def asyncapi() -> Draft7Validator:
    folder = Path(os.environ.get("TEST_ASYNCAPI", ROOT / "build/asyncapi"))
    path = folder / "node_modules/@asyncapi/specs/schemas" / f"{DOCUMENT['asyncapi']}.json"
    return Draft7Validator(json.loads(path.read_text()))


def test_the_document_is_asyncapi_3(asyncapi: Draft7Validator) -> None:
    assert [error.message for error in asyncapi.iter_errors(DOCUMENT)] == []


@pytest.mark.parametrize(
    "path",
    ["info/title", "channels/sends/address", "operations/read_sends/action",
     "channels/totals/bindings/kafka/partitions", "components/messages/Send/payload"],
)  # fmt: skip
def test_a_planted_mistake_is_seen(asyncapi: Draft7Validator, path: str) -> None:
    spoilt = copy.deepcopy(DOCUMENT)
    *steps, last = path.split("/")
    target: Any = spoilt
    for step in steps:
        target = target[step]
    target[last] = 0
    assert not asyncapi.is_valid(spoilt)


def validator(name: str, part: str) -> Draft7Validator:
    schema = DOCUMENT["components"]["messages"][name][part]
    return Draft7Validator({**schema, "components": DOCUMENT["components"]})


LIFECYCLE = validator("Lifecycle", "payload")


@settings(max_examples=300)
@given(histories_with_erase)
def test_every_lifecycle_is_as_the_document_says(history: list[Told]) -> None:
    lifecycle = fold(history)
    whole = msgspec.structs.replace(lifecycle, summary=summarise(lifecycle, Policy()))
    LIFECYCLE.validate(json.loads(codec.encode(whole)))


def test_a_tuple_is_as_the_document_says() -> None:
    rollup = validator("Rollup", "payload")
    value: dict[str, Any] = {"id": "w", "summary": {"outcome": "delivered", "costs": [["EUR", 5]]}}
    rollup.validate(value)
    for costs in ([["EUR", "5"]], [["EUR"]], [["EUR", 5, 6]]):
        value["summary"]["costs"] = costs
        assert not rollup.is_valid(value)


def test_headers_are_as_the_document_says() -> None:
    written = codec.cloud_event(
        ce_type=codec.TYPE_SEND, ce_id="1", source="//a/b", at_us=1, content_type="text/plain",
        verified="jwt",
    )  # fmt: skip
    headers = {name: value.decode() for name, value in written}
    validator("Send", "headers").validate(headers)
    assert not validator("Status", "headers").is_valid(headers), "another type"
    del headers["ce_id"]
    assert not validator("Send", "headers").is_valid(headers)
