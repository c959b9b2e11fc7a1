"""Why bytes could not be used: every reason there is, in one table.

A reason stands in the header ``reason`` of a quarantined record and in a metric label, so it is one
of these and nothing else: never a part of the input.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a webhook or a record is in quarantine."""

    EMPTY = "empty body"
    NOT_JSON = "not JSON"
    NOT_AN_OBJECT = "JSON, but not an object"
    NUMBER_RANGE = "JSON with a number that is out of range"
    CONTENT_TYPE = "content type is neither JSON nor a form"
    TOO_MANY_FIELDS = "too many fields"
    NO_MESSAGE_ID = "no message id"
    BAD_MESSAGE_ID = "message id is too long or not text"
    NO_STATUS = "message id, but neither a status nor a message"
    IS_INBOUND = "an inbound message where a status or receipt was expected"
    IS_NO_INBOUND = "a status or receipt where an inbound message was expected"
    NOT_XML = "not the XML of an answer"
    NO_SEND = "neither a send request nor an answer to one"
    LINE = "line does not have the form of an input line"
    SEND_MALFORMED = "send record does not have the form of a send"
    SEND_KIND = "send record of a kind not yet understood"
    NEWER_FORMAT = "record of a newer format"
    TOO_LARGE = "too large to be kept here: it stands where it came from"
    TOPIC = "topic has no decoder"


class NotUnderstoodError(Exception):
    """These bytes cannot be used. Carries a reason of the table, never a part of the bytes."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
