"""What documents name: objects of the code, and tests."""

from __future__ import annotations

import ast
import importlib
from functools import reduce
from pathlib import Path

TESTS = Path(__file__).parent
REPOSITORY = TESTS.parent


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


def functions_in(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, kinds)}
