"""The table counts by kind of fault, and says what is missing."""

from __future__ import annotations

from sendtrace.verify.found import Difference, Report

from chaos.accounting import Sums
from chaos.driver import Done, Outcome
from chaos.faults import Killed
from chaos.reporting import markdown


def done(part: str, seconds: float, seen: bool = True) -> Done:
    return Done(Killed((part,)), seen, 1, seconds, 0, ())


def test_faults_of_one_kind_are_one_row() -> None:
    outcome = Outcome(7, 3, [done("kafka-1", 2.0), done("kafka-3", 4.0, False), done("edge", 1.0)])
    text = markdown(outcome)
    assert "| kafka killed | 2 | 1 | 2 | 0 | 3.0 s | 4.0 s |" in text
    assert "| edge killed | 1 | 1 | 1 | 0 | 1.0 s | 1.0 s |" in text
    assert "3 faults (3 alone, the others several at once), 3 kills" in text
    assert "seed 7" in text
    assert outcome.is_clean


def test_a_difference_is_shown_and_is_not_clean() -> None:
    outcome = Outcome(7, 1, report=Report(differences=[Difference("inputs", "abc", "it is lost")]))
    assert "inputs, abc: it is lost" in markdown(outcome)
    assert not outcome.is_clean


def test_what_the_stages_took_twice_or_not_is_among_the_lost_and_doubled() -> None:
    counted = Sums(9, 8, 7, ("a",), (), (), skipped=2, recounted=3)
    assert "3 lost, 3 doubled, 0 that nobody sent" in markdown(Outcome(7, 1, sums=counted))
