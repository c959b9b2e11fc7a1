"""Errors that a person can mend, as a sentence that says what to do and an exit code.

Everything else is a fault of ours: it keeps its traceback.
"""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg
from aiokafka.errors import KafkaConnectionError

from schemas.formats import NewerFormat
from sendtrace.local.process import LocalStackError, ProcessDiffers
from sendtrace.runtime.quarantine import TooMuchQuarantine
from sendtrace.runtime.settings import SettingsError
from sendtrace.runtime.task import PositionLost
from sendtrace.runtime.topics import DependencyAway, TopicChanged, TopicsError
from sinks.migrate import MigrationError
from sinks.postgres import RowsRefused, SchemaMissing, SourceChanged
from sinks.rebuild import RebuildBusy

CONFIGURATION, AWAY, DIFFERS = 3, 4, 5

# What ``complaint`` knows. Whatever is not in it is never caught.
FORESEEN = (
    SettingsError,
    TopicChanged,
    TopicsError,
    DependencyAway,
    LocalStackError,
    MigrationError,
    NewerFormat,
    PositionLost,
    SourceChanged,
    SchemaMissing,
    RowsRefused,
    RebuildBusy,
    TooMuchQuarantine,
    KafkaConnectionError,
    asyncpg.PostgresError,
    ConnectionError,
    ExceptionGroup,
)
_DOCTOR = "`sendtrace doctor` shows what is away"


@dataclass(frozen=True)
class Complaint:
    """What to print on stderr, and the exit code."""

    text: str
    exit_code: int


def complaint(error: BaseException) -> Complaint | None:
    """The complaint about an error; None if nobody foresaw it."""
    if isinstance(error, BaseExceptionGroup):
        # Tasks that run side by side fail together: one cause told is enough, none may be hidden.
        told = [complaint(inner) for inner in error.exceptions]
        known = [one for one in told if one is not None]
        return known[0] if known and len(known) == len(told) else None
    match error:
        case SettingsError() | TopicsError() | SchemaMissing():
            return Complaint(str(error), CONFIGURATION)
        case (
            MigrationError()
            | ProcessDiffers()
            | NewerFormat()
            | PositionLost()
            | TopicChanged()
            | SourceChanged()
            | RowsRefused()
            | TooMuchQuarantine()
        ):
            return Complaint(str(error), DIFFERS)
        case DependencyAway() | LocalStackError() | RebuildBusy():
            return Complaint(str(error), AWAY)
        case asyncpg.InvalidAuthorizationSpecificationError() | asyncpg.InvalidCatalogNameError():
            advice = "set SENDTRACE_POSTGRES_DSN to a user and a database that exist"
            return Complaint(f"PostgreSQL refuses ({error}): {advice}", CONFIGURATION)
        case KafkaConnectionError():
            return Complaint(f"Kafka does not answer: {_DOCTOR}", AWAY)
        case asyncpg.PostgresConnectionError() | asyncpg.CannotConnectNowError():
            return Complaint(f"PostgreSQL does not answer: {_DOCTOR}", AWAY)
        case ConnectionError():
            return Complaint(f"A connection failed ({error}): {_DOCTOR}", AWAY)
    return None
