"""docs/reliability.md names a test for every promise: they exist."""

from __future__ import annotations

import re

import pytest

from documents import TESTS, functions_in

DOCUMENT = TESTS.parent / "docs/reliability.md"
NAME = re.compile(r"`([\w/]+\.py)::(\w+)`")


def promises() -> list[tuple[str, list[tuple[str, str]]]]:
    """Each promise, with the tests that are named beside it."""
    told, _, _ = DOCUMENT.read_text().partition("\n## Not promised\n")
    rows = [line.split("|")[1:3] for line in told.splitlines() if line.startswith("| ")]
    return [(promise.strip(), NAME.findall(tests)) for promise, tests in rows]


PROMISES = [(promise, tests) for promise, tests in promises() if promise != "promise"]


def test_every_promise_has_a_test() -> None:
    assert len(PROMISES) > 20
    assert [promise for promise, tests in PROMISES if not tests] == []


def test_every_name_in_the_document_is_read() -> None:
    """One that is written otherwise would be looked for by nobody."""
    assert DOCUMENT.read_text().count("::") == sum(len(tests) for _, tests in PROMISES)


@pytest.mark.parametrize(
    ("path", "function"), sorted({test for _, tests in PROMISES for test in tests})
)
def test_the_test_exists(path: str, function: str) -> None:
    assert function in functions_in(TESTS / path)
