"""What stops a process on purpose is one sentence and an exit code, not a traceback."""

from __future__ import annotations

import pytest

from schemas.formats import NewerFormat
from sendtrace.local.complaints import FORESEEN, complaint
from sendtrace.local.process import LocalStackError, ProcessDiffers
from sendtrace.runtime.quarantine import TooMuchQuarantine
from sendtrace.runtime.task import PositionLost
from sinks.postgres import SchemaMissing, SourceChanged


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NewerFormat("One sentence."), 5),
        (PositionLost("One sentence."), 5),
        (SourceChanged("One sentence."), 5),
        (SchemaMissing(), 3),
        (TooMuchQuarantine("One sentence."), 5),
        (LocalStackError("One sentence."), 4),
        (ProcessDiffers("One sentence."), 5),
    ],
)
def test_what_stops_a_process_is_one_sentence(error: Exception, code: int) -> None:
    told = complaint(error)
    assert isinstance(error, FORESEEN)
    assert told is not None
    assert (told.text, told.exit_code) == (str(error), code)
    assert str(error)
