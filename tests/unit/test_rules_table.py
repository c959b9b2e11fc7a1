"""docs/rules.md names a function and a test for every rule: all of them must exist."""

from __future__ import annotations

import ast
import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?P<rule>.+?) \| `(?P<function>[\w.]+)` \| `(?P<test>[\w/.:]+)` \|$", re.M)
ROWS = [match.groupdict() for match in ROW.finditer((ROOT / "docs/rules.md").read_text())]


def test_the_table_is_read_whole() -> None:
    lines = (ROOT / "docs/rules.md").read_text().splitlines()
    heads = ("| rule |", "|---")
    assert len(ROWS) == len([x for x in lines if x.startswith("|") and not x.startswith(heads)])
    assert len(ROWS) > 50


def defined_in(name: str) -> object:
    """The object of a dotted name: its module is the longest part that can be imported."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[count:], module)
    raise LookupError(name)


@pytest.mark.parametrize("name", sorted({row["function"] for row in ROWS}))
def test_the_function_exists(name: str) -> None:
    assert callable(defined_in(name))


@pytest.mark.parametrize("name", sorted({row["test"] for row in ROWS}))
def test_the_test_exists(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / "tests" / path).read_text())
    assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
