"""docs/rules.md names a function and a test for every rule: they exist, and they ran."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from documents import defined_in, functions_in
from rules_table import DOCUMENT, TESTS, named, owed, rows

ROWS = rows()


def test_the_table_is_read_whole() -> None:
    heads = ("| rule |", "|---")
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("|")]
    assert len(ROWS) == len([line for line in lines if not line.startswith(heads)])
    assert len(ROWS) > 120
    assert len({(row["rule"]) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("name", sorted({row["function"] for row in ROWS}))
def test_the_function_exists(name: str) -> None:
    assert callable(defined_in(name))


@pytest.mark.parametrize("name", sorted({row["test"] for row in ROWS}))
def test_the_test_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert function in functions_in(TESTS / path)


def test_what_a_run_owes() -> None:
    names = {"tests/unit/a/test_x.py::test_y", "tests/contract/test_z.py::test_y"}
    unit = {"tests/unit/a/test_x.py::test_y"}
    assert owed(names, [TESTS]) == owed(names, [TESTS.parent]) == names
    assert owed(names, [TESTS / "unit"]) == unit
    assert owed(names, [TESTS / "unit/a", TESTS / "all"]) == set()
    assert named() >= {f"tests/{ROWS[0]['test']}"}


# A tree with the plugin, one named test, and one more.
CONFTEST = """
from pathlib import Path
import rules_table
rules_table.TESTS = Path(__file__).parent
rules_table.named = lambda: {"tests/unit/test_x.py::test_named"}

def pytest_configure(config):
    config.pluginmanager.register(rules_table.NamedTestsRan(config))
"""
NAMED = "import pytest\n@pytest.mark.parametrize('n', [1, 2])\ndef test_named(n): pass\n"
MORE = "def test_more(): pass\n"


@pytest.mark.parametrize(
    ("source", "arguments", "is_enough"),
    [
        (NAMED + MORE, "", True),
        (NAMED + MORE, "tests/unit", True),
        (MORE, "", False),  # removed
        (MORE, "tests/unit", False),
        (MORE, "tests/unit/test_x.py", True),  # a file is no claim
        (NAMED.replace("pass", "pytest.skip('x')") + MORE, "tests/unit", False),
        (NAMED + MORE, "tests/unit --deselect tests/unit/test_x.py::test_named", False),
        (NAMED + MORE, "--deselect tests/unit/test_x.py::test_named", False),
        (NAMED + MORE, "tests/unit -k more", False),
        (NAMED + MORE, "-k more", True),  # a search
        (NAMED + MORE, "--collect-only", True),
        (NAMED + MORE, "-o addopts=-kmore", False),  # not of who runs it
    ],
)
def test_a_whole_run_fails_without_a_named_test(
    tmp_path: Path, source: str, arguments: str, is_enough: bool
) -> None:
    (tmp_path / "tests/unit").mkdir(parents=True)
    (tmp_path / "tests/conftest.py").write_text(CONFTEST)
    (tmp_path / "tests/unit/test_x.py").write_text(source)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\ntestpaths = tests\npythonpath = {TESTS}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments.split()]
    found = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == (0 if is_enough else 1), found.stdout + found.stderr
    _, _, told = found.stdout.partition("rules without their test")
    assert ("test_x.py::test_named" in told) is not is_enough
