"""The recording rules and alerts: promtool's own tests, and their names against the catalogue."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ingest.errors import ANSWERS, MENDABLE
from ingest.metrics import Metrics
from processors.store import Drops
from schemas.metrics import CATALOGUE
from sendtrace.runtime.loop import LoopMetrics
from sinks.families import Progress, ProgressCollector, TotalsCollector
from sinks.loader import LoaderMetrics
from sinks.sums import Sums

from programs import ROOT, program

FOLDER = ROOT / "deploy/prometheus"
TESTS = FOLDER / "tests"
DASHBOARD = ROOT / "deploy/grafana/sendtrace.json"


def promtool(*arguments: str, folder: Path = FOLDER) -> str:
    """Its output; what it complains about fails the test."""
    done = subprocess.run(
        [program("promtool"), *arguments],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules(name: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((FOLDER / name).read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def assertions(name: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((TESTS / name).read_text())
    return [check for test in document["tests"] for check in test.get("promql_expr_test", ())]


RECORDED = {rule["record"]: rule["expr"] for rule in rules("rules.yml")}
ALERTS = {rule["alert"]: rule for rule in rules("alerts.yml")}


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", "alerts.yml")


@pytest.mark.parametrize("name", ["rules_test.yml", "alerts_test.yml"])
def test_the_rules_tests_pass(name: str) -> None:
    assert "SUCCESS" in promtool("test", "rules", name, folder=TESTS)


@pytest.mark.parametrize(
    ("file", "test", "right", "wrong"),
    [
        (
            "rules.yml",
            "rules_test.yml",
            "          - max without (instance, pod) (sendtrace_sends_withdrawn_total)\n",
            "",
        ),
        (
            "rules.yml",
            "rules_test.yml",
            "max without (instance, pod) (sendtrace_cost_total)",
            "sum without (instance, pod) (sendtrace_cost_total)",
        ),
        ("alerts.yml", "alerts_test.yml", "== 0\n        annotations", "== 2\n        annotations"),
    ],
    ids=["nothing is withdrawn", "two exporters double", "an alert that never fires"],
)
def test_a_broken_rule_fails_its_test(
    file: str, test: str, right: str, wrong: str, tmp_path: Path
) -> None:
    (tmp_path / "tests").mkdir()
    for name in ("rules.yml", "alerts.yml"):
        text = (FOLDER / name).read_text()
        if name == file:
            assert text.count(right) >= 1
            text = text.replace(right, wrong)
        (tmp_path / name).write_text(text)
    (tmp_path / "tests" / test).write_text((TESTS / test).read_text())
    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", test, folder=tmp_path / "tests")


def test_what_can_be_withdrawn_has_a_plain_name() -> None:
    for metric in CATALOGUE:
        if metric.withdrawable:
            total = f"sendtrace_{metric.name}_total"
            left = f"sendtrace_{metric.name}_withdrawn_total"
            once = "max without (instance, pod)"
            expression = " ".join(RECORDED[f"sendtrace:{metric.name}"].split())
            assert expression == f"{once} ({total}) - {once} ({left})"


def test_every_latency_of_the_catalogue_has_a_stage() -> None:
    observed = {
        match[1]
        for rule in rules("rules.yml")
        if (match := re.search(r"sendtrace_(\w+)_seconds_bucket", rule["expr"]))
    }
    assert observed == {m.name for m in CATALOGUE if m.kind == "histogram"}


def test_each_recording_rule_is_tested() -> None:
    tested = {
        name
        for check in assertions("rules_test.yml")
        if check["exp_samples"]
        for name in re.findall(r"sendtrace:[\w:]+", check["expr"])
    }
    assert tested == set(RECORDED)


def test_each_alert_is_tested_to_fire_and_not_to() -> None:
    outcomes: dict[str, set[bool]] = {}
    for check in assertions("alerts_test.yml"):
        [alert] = re.findall(r'alertname="(\w+)"', check["expr"])
        outcomes.setdefault(alert, set()).add(bool(check["exp_samples"]))
    assert outcomes == {alert: {True, False} for alert in ALERTS}


def test_each_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for name, rule in ALERTS.items():
        assert set(rule) == {"alert", "for", "labels", "expr", "annotations"}, name
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert len(rule["annotations"]["summary"]) > 100, name


def test_every_name_in_rules_alerts_and_dashboard_exists() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    LoopMetrics(registry)
    Drops(registry)
    LoaderMetrics(registry)
    registry.register(TotalsCollector(Sums()))
    registry.register(ProgressCollector(Progress(), Sums()))
    page = generate_latest(registry).decode()
    exposed = set()
    for family in text_string_to_metric_families(page):
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
        exposed |= {family.name + suffix for suffix in suffixes.get(family.type, ("",))}
    for file in (FOLDER / "rules.yml", FOLDER / "alerts.yml", DASHBOARD):
        text = re.sub(r"(?m)^\s*#.*$", "", file.read_text())
        used = set(re.findall(r"\bsendtrace_[a-z_]+(?![a-z_]*\.)", text)) - {"sendtrace_"}
        assert used <= exposed, file
        assert set(re.findall(r"sendtrace:[a-z_]+(?::\w+)?", text)) <= set(RECORDED), file


def test_the_alerts_name_every_refusal_of_the_edge() -> None:
    def named(alert: str) -> set[str]:
        [names] = re.findall(r'answer=~"([\w|]+)"', ALERTS[alert]["expr"])
        return set(names.split("|"))

    mendable = {answer.name for answer in MENDABLE}
    webhooks_503 = {a.name for a in ANSWERS if a.http_status == 503} - {"unhealthy"}
    assert named("SendtraceSignaturesRefused") == mendable
    assert named("SendtraceEdgeRefusing") == webhooks_503 - mendable
