"""The line that a run prints first repeats it: the same options, with the seed that was chosen."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from chaos import __main__ as chaos
from chaos import test_short


class Ended(Exception):
    """Only the first line is asked for."""


def options(words: Sequence[str]) -> dict[str, object]:
    return dict(chaos.main.make_context("chaos", list(words)).params)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--short"],
        ["--brokers", "1", "--minutes", "12.5", "--rate", "30"],
        ["--plant", "no-init"],
        ["--all-plants"],
    ],
    ids=" ".join,
)
def test_the_first_line_repeats_the_run(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def ended(*_: object) -> None:
        raise Ended

    monkeypatch.setattr(tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    monkeypatch.setattr(chaos, "_is_found", ended)
    monkeypatch.setattr(chaos, "_run", ended)
    told = CliRunner().invoke(chaos.main, words)
    assert isinstance(told.exception, Ended)
    [line] = re.findall(r"Repeat with: make chaos ARGS='(.*)'", told.output)
    repeated = options(line.split())
    assert isinstance(repeated.pop("seed"), int)
    assert repeated == {name: value for name, value in options(words).items() if name != "seed"}


def test_so_does_that_of_the_short_form_among_the_tests() -> None:
    repeated = options(test_short.ARGUMENTS.split())
    wanted = {"is_short": True, "seed": test_short.SEED, "rate": test_short.RATE}
    assert wanted.items() <= repeated.items()
