"""docs/asyncapi.json is what the code says. Its structure is validated in tests/all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schemas import codec
from schemas.asyncapi import MESSAGES, PARTITIONS, PREFIX, document, rendered
from schemas.topics import TOPICS
from sendtrace.runtime.settings import Settings

DOCUMENT = Path(__file__).parents[3] / "docs/asyncapi.json"


def test_it_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == rendered(), (
        "run `python -m schemas.asyncapi > docs/asyncapi.json`"
    )


def test_every_topic_has_its_messages() -> None:
    assert list(MESSAGES) == [topic.name for topic in TOPICS]


def test_the_defaults_are_those_of_the_settings() -> None:
    assert Settings(topic_prefix=PREFIX, partitions=PARTITIONS) == Settings()


def test_every_type_of_cloud_event_is_some_message() -> None:
    types = {value for name, value in vars(codec).items() if name.startswith("TYPE_")}
    told = {each for messages in MESSAGES.values() for m in messages for each in m.ce_types}
    # What is put aside by a processor keeps its own type.
    assert types - told == {codec.TYPE_QUARANTINE}


def test_every_header_of_a_cloud_event_is_told() -> None:
    written = codec.cloud_event(
        ce_type=codec.TYPE_SEND, ce_id="1", source="/", at_us=0, content_type="a/b"
    )
    headers = document()["components"]["messages"]["Send"]["headers"]
    assert {name for name, _ in written} | {"st_replayed"} == set(headers["properties"])


def test_every_reference_leads_somewhere() -> None:
    found = json.loads(rendered())
    references = list(references_in(found))
    assert len(references) > len(TOPICS)
    for reference in references:
        target: Any = found
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


def references_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for each in value.values() for found in references_in(each)]
    if isinstance(value, list):
        return [found for each in value for found in references_in(each)]
    return []
