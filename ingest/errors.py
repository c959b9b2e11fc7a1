"""Every answer the edge can give, in one table: when, what is stored, what the caller does.

Vonage retries only on 429 and 5xx (FACTS section 7): 503 says "later", all else is said once.
"""

from __future__ import annotations

from msgspec import Struct


class Answer(Struct, frozen=True):
    """One row. ``name`` is also the label value of the metric: the set is bounded."""

    name: str
    http_status: int
    when: str
    stored: str
    caller: str


class Refused(Exception):
    """The request ends with this answer. Carries a row of the table, never a part of the input."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.name)
        self.answer = answer


_RETRIES = "Vonage retries: Messages for 24 h from 5 s on, SMS each minute for 24 h, receipts 72 h"
_ENDS = "Vonage does not retry"
_MAYBE = (
    "nothing that we know of: what came too late for its acknowledgement is merged when it returns"
)

ACCEPTED = Answer(
    "accepted", 200, "Kafka acknowledged the webhook with acks=all", "bytes unchanged", "is done"
)
QUARANTINED = Answer(
    "quarantined",
    200,
    "Kafka acknowledged a webhook that could not be understood",
    "bytes unchanged in `quarantine`, with the reason",
    "is done: another attempt would be no better",
)
PROBE = Answer(
    "probe", 200, "GET without parameters: someone tries the URL", "nothing", "sees it works"
)
KAFKA_SLOW = Answer("kafka_slow", 503, "no acknowledgement within the budget", _MAYBE, _RETRIES)
KAFKA_FAILED = Answer("kafka_failed", 503, "the producer failed; it is replaced", _MAYBE, _RETRIES)
IN_FLIGHT_FULL = Answer(
    "in_flight_full", 503, "too many bytes wait for Kafka already", "nothing", _RETRIES
)
BODY_SLOW = Answer("body_slow", 503, "the body did not come within the budget", "nothing", _RETRIES)
DRAINING = Answer("draining", 503, "the process is stopping and takes no more", "nothing", _RETRIES)
BODY_BROKEN = Answer(
    "body_broken",
    400,
    "the connection ended within the body",
    "nothing",
    "Vonage sees no answer, and retries",
)
TOO_LARGE = Answer(
    "too_large", 413, "the body is above the limit", "nothing: raise an alert on it", _ENDS
)
NOT_FOUND = Answer("not_found", 404, "the path is not under /webhooks/", "nothing", _ENDS)
METHOD = Answer("method", 405, "neither GET nor POST", "nothing", _ENDS)

SENDS_ACCEPTED = Answer(
    "sends_accepted", 200, "Kafka acknowledged every message of the call", "send records", "is done"
)
SENDS_MALFORMED = Answer(
    "sends_malformed",
    400,
    "not of the form of a send; a sentence says where",
    "nothing",
    "mends it",
)
SENDS_FOREIGN = Answer(
    "sends_foreign", 403, "POST /sends from another host than this one", "nothing", "is refused"
)

ANSWERS: tuple[Answer, ...] = (
    ACCEPTED,
    QUARANTINED,
    PROBE,
    KAFKA_SLOW,
    KAFKA_FAILED,
    IN_FLIGHT_FULL,
    BODY_SLOW,
    DRAINING,
    BODY_BROKEN,
    TOO_LARGE,
    NOT_FOUND,
    METHOD,
    SENDS_ACCEPTED,
    SENDS_MALFORMED,
    SENDS_FOREIGN,
)
