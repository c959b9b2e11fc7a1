"""docs/metrics.md is what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from sendtrace.runtime.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/metrics.md").read_text()
TOOL = "tools/metrics_tables.py"


def between(name: str) -> str:
    return DOCUMENT.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0]


def test_the_tables_are_the_catalogue_and_the_processes_own() -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / TOOL], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    told = f"{between('catalogue')}\n{between('processes')}"
    assert told == printed, f"run `python {TOOL} --write`"
    assert "`sendtrace_messages_withdrawn_total`" in told


def test_every_rule_is_in_the_document() -> None:
    rules = (ROOT / "deploy/prometheus/rules.yml").read_text()
    for name in re.findall(r"record: (sendtrace:\S+)", rules):
        metric, _, window = name.removeprefix("sendtrace:").partition(":")
        plain = not window or window.startswith("delta") or metric == "nothing"
        assert plain or f"`{name}`" in DOCUMENT, name


def test_the_settings_in_the_document_exist() -> None:
    names = set(re.findall(r"SENDTRACE_[A-Z_]+", DOCUMENT))
    assert names <= {PREFIX + field.upper() for field in Settings.__struct_fields__}
