"""docs/edge.md and docs/openapi.json are what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ingest import errors
from ingest.app import internal_routes
from ingest.errors import ANSWERS, markdown
from ingest.metrics import Metrics
from ingest.openapi import ELSEWHERE, ROUTES, document, rendered
from sendtrace.runtime.service import Health
from sendtrace.runtime.settings import PREFIX, Settings

from fakes.edge import Edge

DOCS = Path(__file__).parents[3] / "docs"
EDGE = (DOCS / "edge.md").read_text()
METHODS = {"get", "post", "put", "delete", "options", "head", "patch", "trace"}


def test_the_table_in_the_document_is_the_one_in_the_code() -> None:
    told = EDGE.partition("<!-- answers -->\n")[2].partition("<!-- /answers -->")[0]
    assert told == markdown(), "write what `python -m ingest.errors` prints into docs/edge.md"


def test_the_settings_and_defaults_in_the_document_exist() -> None:
    names = set(re.findall(r"SENDTRACE_[A-Z_]+", EDGE))
    assert names <= {PREFIX + field.upper() for field in Settings.__struct_fields__}


def test_every_metric_is_in_the_document() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"`{name}`" in EDGE, name


def test_openapi_is_up_to_date() -> None:
    assert (DOCS / "openapi.json").read_text() == rendered(), (
        "run `python -m ingest.openapi > docs/openapi.json`"
    )


def test_every_answer_is_an_answer_of_some_route() -> None:
    told = {answer.name for route in ROUTES for answer in route.answers}
    assert told | {answer.name for answer in ELSEWHERE} == {answer.name for answer in ANSWERS}


async def test_the_internal_routes_are_those_of_the_server(edge: Edge) -> None:
    served = internal_routes(edge.given, Health(), CollectorRegistry())
    assert set(served) == {(r.method.upper(), r.path) for r in ROUTES if r.port == "internal"}


def test_the_structure_is_that_of_openapi_3_1() -> None:
    """The rules of the specification that this document can break; no meta-schema is at hand."""
    found = json.loads(rendered())
    assert found == json.loads(json.dumps(document()))
    assert re.fullmatch(r"3\.1\.\d+", found["openapi"])
    assert set(found) <= {"openapi", "info", "servers", "paths", "components"}
    assert {"title", "version"} <= set(found["info"])
    ids = []
    for path, item in found["paths"].items():
        assert path.startswith("/")
        assert set(item) <= METHODS | {"parameters", "servers"}
        named = {p["name"] for p in item.get("parameters", [])}
        assert named == set(re.findall(r"{(\w+)}", path))
        assert all(p["in"] == "path" and p["required"] for p in item.get("parameters", []))
        for method in METHODS & set(item):
            ids.append(item[method]["operationId"])
            check_operation(item[method], found)
    assert len(ids) == len(set(ids)) == len(ROUTES)
    for reference in references(found):
        target: Any = found
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


def check_operation(operation: dict[str, Any], found: dict[str, Any]) -> None:
    allowed = {"operationId", "summary", "responses", "requestBody", "security"}
    assert set(operation) <= allowed
    for status, response in operation["responses"].items():
        assert re.fullmatch(r"[1-5]\d\d", status)
        assert response["description"]
        assert set(response) <= {"description", "content"}
        assert all(set(media) == {"schema"} for media in response.get("content", {}).values())
    assert operation.get("requestBody", {"content": {}})["content"] is not None
    for requirement in operation.get("security", []):
        assert set(requirement) <= set(found["components"]["securitySchemes"])


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for each in value.values() for found in references(each)]
    if isinstance(value, list):
        return [found for each in value for found in references(each)]
    return []


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.name)
def test_names_are_labels_and_sentences_are_table_cells(answer: errors.Answer) -> None:
    assert re.fullmatch(r"[a-z_]+", answer.name)
    assert not any("|" in text or "\n" in text for text in (answer.when, answer.stored))
