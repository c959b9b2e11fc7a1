"""What code and documents cite is there: sections and rows, and what docs/aiokafka.md names.

A citation is `docs/vonage.md 7`, `docs/rules.md 3`, `docs/aiokafka.md 4`, or several: `1, 3 and 6`,
`3 to 5`. Without a number it is the whole document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from documents import REPOSITORY, TESTS, defined_in, functions_in

FOLDERS = (
    "bench", "deploy", "docs", "examples", "ingest", "processors", "schemas", "sendtrace", "sinks",
    "tests", "tools",
)  # fmt: skip
KINDS = {".py", ".md", ".sql", ".sh", ".toml", ".yaml", ".yml", ""}
# What numbers a citation may have, by document.
NUMBERED = {"vonage": r"^## (\d+)\. ", "rules": r"^## (\d+)\. ", "aiokafka": r"^\| (\d+) \| "}
CITATION = re.compile(r"docs/(vonage|rules|aiokafka)\.md (\d+(?:(?:, | and | to )\d+)*)(?!\d|\.\d)")
LINE_END = re.compile(r"\n[ \t]*(?:(?:#|--) )?")  # a citation may go on in the next line
# Names of documents that were never in the repository. Not of variables.
UNPUBLISHED = re.compile(r"\b(?:FACTS|AIOKAFKA|RULES|DESIGN)\b(?! <?= )")
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
FUNCTION = re.compile(r"`((?:[a-z_]+)(?:\.\w+)+)`(?!::)")


def texts() -> Iterator[tuple[str, str]]:
    """Every text of the project, by its path, but this file."""
    inside = [path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*")]
    for path in [*inside, *REPOSITORY.glob("*")]:
        if path.is_file() and path.suffix in KINDS and path != Path(__file__):
            yield str(path.relative_to(REPOSITORY)), path.read_text()


TEXTS = dict(texts())


def numbers_of(document: str) -> list[int]:
    text = TEXTS[f"docs/{document}.md"]
    return [int(number) for number in re.findall(NUMBERED[document], text, re.M)]


def numbers_in(cited: str) -> set[int]:
    """Of `1, 3 to 5 and 7`."""
    found: set[int] = set()
    for part in re.split(", | and ", cited):
        first, _, last = part.partition(" to ")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def citations(text: str) -> set[tuple[str, int]]:
    """Document and number."""
    flat = LINE_END.sub(" ", text)
    return {(match[1], n) for match in CITATION.finditer(flat) for n in numbers_in(match[2])}


CITED = {(path, *one) for path, text in TEXTS.items() for one in citations(text)}


@pytest.mark.parametrize("document", NUMBERED)
def test_numbers_are_given_once_and_in_order(document: str) -> None:
    numbers = numbers_of(document)
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 6


def test_what_is_cited_is_there() -> None:
    there = {(document, number) for document in NUMBERED for number in numbers_of(document)}
    assert {one for one in CITED if one[1:] not in there} == set()


@pytest.mark.parametrize("document", NUMBERED)
def test_each_document_is_cited_by_code(document: str) -> None:
    """Or citations would be written in a form that nobody looks for."""
    assert len({path for path, name, _ in CITED if name == document and path[-3:] == ".py"}) > 5


def test_every_citation_has_the_form() -> None:
    """One with a number after other words would not be looked for."""
    other = re.compile(r"docs/(?:vonage|rules|aiokafka)\.md,? \(?(?:sections?|rows?|rules?|§)")
    assert [path for path, text in TEXTS.items() if other.search(LINE_END.sub(" ", text))] == []


def test_what_is_not_published_is_not_cited() -> None:
    found = {
        (path, match[0]) for path, text in TEXTS.items() for match in UNPUBLISHED.finditer(text)
    }
    assert found == set()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(docs/vonage.md 7)", {("vonage", 7)}),
        ("docs/rules.md 1, 3 to 5 and 7.", {("rules", n) for n in (1, 3, 4, 5, 7)}),
        ("    # docs/aiokafka.md\n    # 12: so", {("aiokafka", 12)}),
        ("docs/vonage.md 2 and 3, docs/rules.md 5", {("vonage", 2), ("vonage", 3), ("rules", 5)}),
        ("in docs/vonage.md, of which 7", set()),
    ],
)
def test_how_a_citation_is_read(text: str, found: set[tuple[str, int]]) -> None:
    assert citations(text) == found


# -- docs/aiokafka.md ------------------------------------------------------------------------------


def rows() -> list[list[str]]:
    lines = re.findall(r"^\| (\d+ \| .*) \|$", TEXTS["docs/aiokafka.md"], re.M)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


ROWS = rows()


def test_every_row_is_whole() -> None:
    """A number, what happens, how it is known, what we do, in which functions, by which tests."""
    assert [int(row[0]) for row in ROWS] == numbers_of("aiokafka")
    assert [row[0] for row in ROWS if len(row) != 6 or not all(row)] == []
    assert [row[0] for row in ROWS if not FUNCTION.search(row[4])] == []
    assert [row[0] for row in ROWS if not TEST.search(row[5]) and "no test" not in row[5]] == []


@pytest.mark.parametrize("name", sorted({n for row in ROWS for n in FUNCTION.findall(row[4])}))
def test_the_function_exists(name: str) -> None:
    assert callable(defined_in(name))


@pytest.mark.parametrize(("path", "function"), sorted(set(TEST.findall(TEXTS["docs/aiokafka.md"]))))
def test_the_test_exists(path: str, function: str) -> None:
    assert function in functions_in(TESTS / path)
