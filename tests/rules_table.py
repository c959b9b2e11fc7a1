"""The table of docs/rules.md: each rule, its function, its test; and whether those ran.

A run of a whole folder of tests/ (``pytest``, ``pytest tests/unit``) fails if one of its named
tests did not run and pass: it was removed, renamed, skipped, deselected or ignored, by whatever
means. Who runs less names less: a file, or a folder below. Only ``pytest -k word`` without a path
is a search, and not a claim about everything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCUMENT = TESTS.parent / "docs/rules.md"
ROW = re.compile(r"^\| (?P<rule>.+?) \| `(?P<function>[\w.]+)` \| `(?P<test>[\w/.:]+)` \|$", re.M)
# Options that look for some tests.
SEARCHES = ("-k", "-m", "--lf", "--last-failed", "--sw", "--stepwise")


def rows() -> list[dict[str, str]]:
    """The rules, as the document has them."""
    return [match.groupdict() for match in ROW.finditer(DOCUMENT.read_text())]


def named() -> set[str]:
    """The tests, as pytest calls them: tests/unit/test_x.py::test_y."""
    return {f"{TESTS.name}/{row['test']}" for row in rows()}


def owed(names: Collection[str], folders: Sequence[Path]) -> set[str]:
    """Those that a run of these folders must run: whose top folder, as tests/unit, is in one."""
    return {
        name
        for name in names
        if any((TESTS.parent / Path(*Path(name).parts[:2])).is_relative_to(f) for f in folders)
    }


class NamedTestsRan:
    """A plugin of this run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._passed: set[str] = set()
        self._missing: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._passed.add(report.nodeid.partition("[")[0])

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.OK and not self._is_search():
            self._missing = sorted(owed(named(), self._folders()) - self._passed)
        if self._missing:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._missing:
            terminalreporter.section("rules without their test", red=True)
            terminalreporter.line(
                "docs/rules.md names these, and they did not run and pass in this run of "
                "the whole folder. Name a file or a folder below to run less."
            )
            for name in self._missing:
                terminalreporter.line(f"  {name}")

    def _folders(self) -> list[Path]:
        start = self._config.invocation_params.dir
        paths = [(start / arg).resolve() for arg in self._config.args]
        return [path for path in paths if path.is_dir()]

    def _is_search(self) -> bool:
        if self._config.option.collectonly:
            return True
        said = self._config.invocation_params.args
        has_path = self._config.args_source is pytest.Config.ArgsSource.ARGS
        return not has_path and any(arg.startswith(SEARCHES) for arg in said)
