"""`sendtrace config`: every setting, and no secret."""

import json

import pytest

from sendtrace.local.config import as_json, as_text, rows
from sendtrace.runtime.settings import Settings


def test_every_setting_is_there_with_its_default() -> None:
    found = rows({})
    assert [row.name for row in found] == [
        f"SENDTRACE_{name.upper()}" for name in Settings.__struct_fields__
    ]
    assert all((row.source, row.value) == ("default", row.default) for row in found)


def test_what_the_environment_says_stands_first() -> None:
    text = as_text(rows({"SENDTRACE_PARTITIONS": "3", "PATH": "/bin"}))
    assert text.splitlines()[:2] == [
        "Set in the environment:",
        "  SENDTRACE_PARTITIONS                  3  (default 12)",
    ]


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://u:hunter2@db:5432/x", "postgresql://u:****@db:5432/x"),
        ("postgresql://u:hunt@er2@db/x", "postgresql://u:****@db/x"),
        ("postgresql://u@db/x?password=hunter2", "postgresql://u@db/x?****"),
        ("postgresql://u:hunter2@[db/x", "****"),
        ("host=db user=u password=hunter2", "****"),
        ("postgresql://u@db/x", "postgresql://u@db/x"),
    ],
)
def test_a_password_is_never_shown(dsn: str, shown: str) -> None:
    found = rows({"SENDTRACE_POSTGRES_DSN": dsn})
    row = next(row for row in found if row.name == "SENDTRACE_POSTGRES_DSN")
    assert row.value == shown
    assert "hunter2" not in as_text(found) + as_json(found)


def test_json_is_for_programs() -> None:
    entry = json.loads(as_json(rows({"SENDTRACE_PARTITIONS": "3"})))[3]
    assert entry == {
        "name": "SENDTRACE_PARTITIONS",
        "value": "3",
        "default": "12",
        "source": "environment",
    }
