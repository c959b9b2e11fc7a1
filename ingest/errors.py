"""Every answer the edge can give, in one table: when, what is stored, what the caller does.

Vonage retries only on 429 and 5xx (docs/vonage.md 7), so this is the rule: what a setting or a
machine of ours can mend is 503, what nothing ever mends is a 4xx. ``python -m ingest.errors``
prints the table as docs/edge.md has it.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from pathlib import PurePath
from types import MappingProxyType

from msgspec import Struct

from schemas.vonage.signing import TREATMENTS, Treatment, Verdict


class Answer(Struct, frozen=True):
    """One row. ``name`` is also the label value of the metric: the set is bounded.

    ``is_ours``: we were not able to take what may have been good. Records that come soon after are
    marked ``ce_afterrefusal``, and pulses stop.
    """

    name: str
    http_status: int
    when: str
    stored: str
    caller: str
    is_ours: bool = False


class Refused(Exception):
    """The request ends with this answer. Carries a row of the table, never a part of the input."""

    def __init__(self, answer: Answer, account: str | None = None) -> None:
        super().__init__(answer.name)
        self.answer = answer
        self.account = account


def kind_and_place(error: BaseException) -> str:
    """What a log may have of an unforeseen error: its message could hold a part of the input."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place


_RETRIES = "Vonage retries: Messages for 24 h from 5 s on, SMS each minute for 24 h, receipts 72 h"
_ENDS = "Vonage does not retry"
_MENDS = "mends it"
_MAYBE = (
    "nothing that we know of: what came too late for its acknowledgement is merged when it returns"
)


def _later(name: str, when: str, stored: str = "nothing", *, is_ours: bool = False) -> Answer:
    return Answer(name, 503, when, stored, _RETRIES, is_ours)


def _never(name: str, http_status: int, when: str, stored: str = "nothing") -> Answer:
    return Answer(name, http_status, when, stored, _ENDS)


# -- webhooks: taken
ACCEPTED = Answer(
    "accepted", 200, "Kafka acknowledged the webhook with acks=all", "bytes unchanged", "is done"
)
QUARANTINED = Answer(
    "quarantined",
    200,
    "Kafka acknowledged a webhook that is authentic and could not be understood, or is too old",
    "bytes unchanged in `quarantine`, with the reason",
    "is done: another attempt would be no better",
)
PROBE = Answer(
    "probe", 200, "GET without parameters: someone tries the URL", "nothing", "sees it works"
)

# -- webhooks: not now, for reasons of ours
KAFKA_SLOW = _later("kafka_slow", "no acknowledgement within the budget", _MAYBE, is_ours=True)
KAFKA_FAILED = _later("kafka_failed", "the producer failed; it is replaced", _MAYBE, is_ours=True)
IN_FLIGHT_FULL = _later("in_flight_full", "too many bytes wait for Kafka already", is_ours=True)
DRAINING = _later("draining", "the process is stopping and takes no more", is_ours=True)
CROWDED = _later("crowded", "too many connections are open; this one is closed", is_ours=True)
FAULT = _later("fault", "a fault of ours: the log has its kind. Raise an alert on it", is_ours=True)
BODY_SLOW = _later("body_slow", "the body did not come within the budget")

# -- webhooks: not verified. A mended setting of ours may make these valid: raise an alert
UNSIGNED = _later("unsigned", "no signature or token, or an unknown token, where one is required")
UNKNOWN_ACCOUNT = _later("unknown_account", "signed by, or about, an account not configured here")
NO_SECRET = _later("no_secret", "signed, and no secret of the account is configured")
WRONG_SIGNATURE = _later("wrong_signature", "the signature fits no live secret of the account")
AHEAD = _later("ahead", "signed more than 5 minutes in the future: a clock is wrong")

# -- webhooks: never
NOT_A_JWT = _never("not_a_jwt", 401, "the bearer token is no JWT")
OTHER_ALGORITHM = _never("other_algorithm", 401, "a JWT that is not HS256")
BODY_MISMATCH = _never("body_mismatch", 401, "a right JWT, but for another body")
TOO_LARGE = _never("too_large", 413, "the body is above the limit", "nothing: raise an alert on it")
MALFORMED = _never("malformed", 400, "the bytes are not HTTP, or a header is above its limit")
BODY_BROKEN = Answer(
    "body_broken",
    400,
    "the connection ended, or the encoding broke, within the body",
    "nothing",
    "Vonage sees no answer, and retries",
)
NOT_FOUND = _never("not_found", 404, "the path is not under /webhooks/")
METHOD = _never("method", 405, "neither GET nor POST")

# -- the internal port
SENDS_ACCEPTED = Answer(
    "sends_accepted", 200, "Kafka acknowledged every message of the call", "send records", "is done"
)
SENDS_MALFORMED = Answer(
    "sends_malformed", 400, "not of the form of a send; a sentence says where", "nothing", _MENDS
)
SENDS_UNAUTHORIZED = Answer(
    "sends_unauthorized", 401, "POST /sends without the bearer token", "nothing", _MENDS
)
SENDS_FOREIGN = Answer(
    "sends_foreign",
    403,
    "POST /sends from another host, and no token is configured",
    "nothing",
    "is refused",
)
HEALTHY = Answer("healthy", 200, "the process lives, or is ready", "nothing", "is done")
UNHEALTHY = Answer(
    "unhealthy", 503, "it is not ready, or is beyond repair", "nothing", "restarts or waits"
)
METRICS = Answer("metrics", 200, "the edge's own figures, as Prometheus text", "nothing", "reads")

ANSWERS: tuple[Answer, ...] = (
    ACCEPTED, QUARANTINED, PROBE,
    KAFKA_SLOW, KAFKA_FAILED, IN_FLIGHT_FULL, DRAINING, CROWDED, FAULT, BODY_SLOW,
    UNSIGNED, UNKNOWN_ACCOUNT, NO_SECRET, WRONG_SIGNATURE, AHEAD,
    NOT_A_JWT, OTHER_ALGORITHM, BODY_MISMATCH,
    TOO_LARGE, MALFORMED, BODY_BROKEN, NOT_FOUND, METHOD,
    SENDS_ACCEPTED, SENDS_MALFORMED, SENDS_UNAUTHORIZED, SENDS_FOREIGN,
    HEALTHY, UNHEALTHY, METRICS,
)  # fmt: skip

# What a verdict is answered with. The rest is taken, or goes to quarantine.
REFUSALS: Mapping[Verdict, Answer] = MappingProxyType(
    {
        Verdict.MISSING: UNSIGNED,
        Verdict.UNKNOWN_ACCOUNT: UNKNOWN_ACCOUNT,
        Verdict.NO_SECRET: NO_SECRET,
        Verdict.WRONG_SIGNATURE: WRONG_SIGNATURE,
        Verdict.FUTURE: AHEAD,
        Verdict.NOT_A_JWT: NOT_A_JWT,
        Verdict.OTHER_ALGORITHM: OTHER_ALGORITHM,
        Verdict.BODY_MISMATCH: BODY_MISMATCH,
    }
)
# Those that a new accounts file may end.
MENDABLE = frozenset(
    answer for verdict, answer in REFUSALS.items() if TREATMENTS[verdict] is Treatment.LATER
)


def markdown() -> str:
    """The table of docs/edge.md."""
    lines = [
        "| answer | HTTP | when | what is stored | the caller |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row.name}` | {row.http_status} | {row.when} | {row.stored} | {row.caller} |"
        for row in ANSWERS
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
