"""A change of the topics' values that breaks an older reader is refused.

Readers are other services, and our own processes of one version before, which run beside the new
ones while it is rolled out; writers of one version before have left their records in the topics. So
a published field keeps its type, its default (an absent field has it) and whether it is required;
what may be done is to add a field with a default. A new word in a vocabulary is a change as well: a
reader that decodes strictly, as ours do, takes the record for an unusable one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from msgspec import Struct

from schemas.asyncapi import VALUES

PUBLISHED = Path(__file__).parent / "published"
# Words for people.
SAID = ("title", "description")


def as_json(value: type[Struct]) -> Any:
    return json.loads(json.dumps(msgspec.json.schema(value)))


def breaks(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What a reader of ``old`` would stumble over in ``new``, as paths and reasons."""
    return _breaks(old, new, old.get("$defs", {}), new.get("$defs", {}), "")


def _breaks(old: Any, new: Any, old_defs: Any, new_defs: Any, path: str) -> list[str]:
    """Both schemas step by step, through references. No value of ours contains itself."""
    if isinstance(old, dict) and isinstance(new, dict):
        old, new = _resolved(old, old_defs), _resolved(new, new_defs)
        found = []
        if "properties" in old and "properties" in new:
            found = _of_fields(old, new, old_defs, new_defs, path)
            old, new = _but(old, "properties", "required"), _but(new, "properties", "required")
        for name in sorted((old.keys() | new.keys()) - {*SAID, "$defs"}):
            if name not in old or name not in new:
                found.append(f"{path}: {name} came or went")
            else:
                found += _breaks(old[name], new[name], old_defs, new_defs, f"{path}/{name}")
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [b for i, (o, n) in pairs for b in _breaks(o, n, old_defs, new_defs, f"{path}/{i}")]
    return [] if old == new else [f"{path}: {old!r} became {new!r}"]


def _of_fields(old: Any, new: Any, old_defs: Any, new_defs: Any, path: str) -> list[str]:
    before, after = old["properties"], new["properties"]
    required_before, required = set(old.get("required", [])), set(new.get("required", []))
    found = [f"{path}.{name} is gone" for name in sorted(before.keys() - after.keys())]
    changed = (required_before ^ required) - (before.keys() - after.keys())
    found += [f"{path}.{name}: required changed" for name in sorted(changed)]
    for name in sorted(before.keys() & after.keys()):
        found += _breaks(before[name], after[name], old_defs, new_defs, f"{path}.{name}")
    return found


def _resolved(schema: Any, defs: Any) -> Any:
    if "$ref" not in schema:
        return schema
    target = defs[schema["$ref"].removeprefix("#/$defs/")]
    return {**target, **_but(schema, "$ref")}


def _but(schema: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name not in names}


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_no_published_value_is_broken(value: type[Struct]) -> None:
    published = json.loads((PUBLISHED / f"{value.__name__}.json").read_text())
    assert breaks(published, as_json(value)) == []


def test_every_published_value_still_exists() -> None:
    assert {path.stem for path in PUBLISHED.iterdir()} == {value.__name__ for value in VALUES}


class Inner(Struct):
    a: int


class Old(Struct, kw_only=True):
    """As it is."""

    id: str
    word: Literal["a", "b"] = "a"
    number: int = 0
    maybe: int | None = None
    inner: Inner | None = None
    rows: tuple[tuple[str, int], ...] = ()


def changed(**fields: Any) -> Mapping[str, Any]:
    """The schema of ``Old`` with fields replaced, added, or (None) removed. A field is
    ``(type,)`` or ``(type, default)``."""
    known: dict[str, Any] = {
        "id": (str,),
        "word": (Literal["a", "b"], "a"),
        "number": (int, 0),
        "maybe": (int | None, None),
        "inner": (Inner | None, None),
        "rows": (tuple[tuple[str, int], ...], ()),
    }
    kept = {name: field for name, field in (known | fields).items() if field is not None}
    new = msgspec.defstruct("New", [(name, *rest) for name, rest in kept.items()], kw_only=True)
    return msgspec.json.schema(new)


def inner(**fields: type) -> type:
    return msgspec.defstruct("Other", list(fields.items()))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"more": (str, "")},
        {"more": (Inner | None, None)},
        {"inner": (inner(a=int) | None, None)},
    ],
    ids=["nothing", "a field", "an object", "another name of a struct"],
)
def test_additions_with_a_default_break_nobody(fields: dict[str, Any]) -> None:
    assert breaks(msgspec.json.schema(Old), changed(**fields)) == []


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"number": None}, ".number is gone"),
        ({"id": None}, ".id is gone"),
        ({"more": (int,)}, ".more: required changed"),
        ({"number": (int,)}, ".number: "),
        ({"id": (str, "")}, ".id: "),
        ({"number": (str, "")}, ".number/"),
        ({"number": (float, 0)}, ".number/type: 'integer' became 'number'"),
        ({"number": (int, 1)}, ".number/default: 0 became 1"),
        ({"number": (int | None, 0)}, ".number: "),
        ({"maybe": (int, 0)}, ".maybe: "),
        ({"word": (Literal["a"], "a")}, ".word/enum"),
        ({"word": (Literal["a", "b", "c"], "a")}, ".word/enum"),
        ({"word": (str, "a")}, ".word: "),
        ({"inner": (inner(b=int) | None, None)}, ".a is gone"),
        ({"inner": (inner(a=str) | None, None)}, ".a/type"),
        ({"rows": (tuple[tuple[str, str], ...], ())}, ".rows/items/prefixItems/1/type"),
        ({"rows": (tuple[tuple[str, int, int], ...], ())}, ".rows/items/"),
    ],
    ids=str,
)
def test_a_planted_break_is_refused(fields: dict[str, Any], where: str) -> None:
    assert where in "\n".join(breaks(msgspec.json.schema(Old), changed(**fields)))
