"""`sendtrace config`: every setting, and no secret."""

import json
from pathlib import Path

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
        ("postgresql://u:hunter2/@db/x", "****"),
        ("postgresql://u:hunter2#@db/x", "****"),
        ("postgresql://u:hunter2?@db/x", "****"),
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


def test_what_the_joiner_takes_from_the_accounts_file_and_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text(
        '[accounts.sub]\nsignature_secrets=["hunter2"]\nparents=["main"]\ncurrency="GBP"\n'
        '[accounts.main]\nsignature_secrets=["hunter2"]\n'
    )
    found = rows({"SENDTRACE_ACCOUNTS_FILE": str(path)})
    text = as_text(found)
    assert [line.split() for line in text.partition("Of the accounts file:")[2].splitlines()] == [
        [],
        ["accounts.sub.currency", "GBP"],
        ["accounts.sub.parents", "main"],
    ]
    assert "hunter2" not in text + as_json(found)
    assert json.loads(as_json(found))[-1]["source"] == "accounts file"
    path.write_text("[accounts")
    assert rows({"SENDTRACE_ACCOUNTS_FILE": str(path)})[-1].source == "default"


def test_the_deadlines_are_written_out() -> None:
    assert "no_first_event=10m, no_send=5m, confirmation=72h, margin=1h" in as_text(rows({}))
