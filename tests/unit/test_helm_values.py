"""The settings that the chart takes are ours. What helm makes of them: tests/all/test_helm.py."""

from __future__ import annotations

import runpy
from pathlib import Path

from sendtrace.runtime.settings import Settings

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "tools/helm_settings.py"))


def test_the_values_schema_is_up_to_date() -> None:
    text = TOOL["SCHEMA"].read_text()
    assert text == TOOL["rendered"](text), "run `python tools/helm_settings.py`"


def test_what_the_chart_sets_itself_exists() -> None:
    assert set(Settings.__struct_fields__) >= TOOL["OF_THE_CHART"]
