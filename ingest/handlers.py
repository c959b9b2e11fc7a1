"""What happens to one webhook: read it, tell what it is, verify it, stamp it, make it durable.

The handler takes its dependencies as an argument; ``ingest/app.py`` binds them. Nothing of a
request but its path goes anywhere else than into Kafka: no query, number or text is logged, and
of the path not what may be a token.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple, Protocol

from aiohttp import web
from msgspec import Struct

from ingest.body import InFlight, read_body, split_target
from ingest.errors import (
    ACCEPTED,
    BODY_BROKEN,
    BODY_SLOW,
    DRAINING,
    FAULT,
    METHOD,
    NOT_FOUND,
    PROBE,
    QUARANTINED,
    REFUSALS,
    SENDS_UNAUTHORIZED,
    TOO_LARGE,
    Answer,
    Refused,
    kind_and_place,
)
from ingest.metrics import Metrics
from ingest.refusals import Refusals
from ingest.verify import Judged, Kind, StaleAfter, judge, kind_of
from schemas import topics
from schemas.codec import TYPE_QUARANTINE, Headers, cloud_event, event_id
from schemas.vonage.detect import Detected, Quarantine, detect
from schemas.vonage.signing import Verdict
from sendtrace.runtime.accounts import TOKEN_LENGTH, Account, Accounts

ROOT = "/webhooks"
# What a segment that may be a token is stored as.
HIDDEN = "*"
# Real ones have some 50 characters; a record's headers must have a bound.
CONTENT_TYPE_LENGTH = 256

log = logging.getLogger(__name__)


class Publish(Protocol):
    """The part of :class:`ingest.publish.Publisher` that handlers use."""

    @property
    def in_flight(self) -> InFlight: ...

    async def publish(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        headers: Headers,
        *,
        partition: int | None = None,
    ) -> None: ...


class Dependencies(Struct):
    """What handlers need. ``closing`` asks clients to go, ``draining`` refuses them. Without
    ``accounts`` nothing is verified, without ``sends_token`` sends come from this host only."""

    publisher: Publish
    metrics: Metrics
    now_us: Callable[[], int]
    body_limit_bytes: int
    read_seconds: float
    refusals: Refusals
    stale_after: StaleAfter
    accounts: Accounts | None = None
    sends_token: bytes | None = None
    closing: bool = False
    draining: bool = False


class Taken(NamedTuple):
    """How a request that was not refused is counted: the labels of its answer."""

    answer: Answer
    reason: str = ""
    account: str = ""


# First segments that Vonage's documents use, as long as a token: hints, and nobody's secret.
DOCUMENTED = frozenset({"delivery-receipt", "delivery-receipts", "inbound-messages"})


async def webhook(request: web.BaseRequest, given: Dependencies) -> web.Response:
    """Answer one request of the public port, by a row of ``ingest/errors.py`` whatever comes."""
    try:
        taken = await take(request, given)
    except Refused as refused:
        taken = Taken(refused.answer, account=refused.account or "")
        given.refusals.note(refused.answer, given.now_us())
    except Exception as error:  # noqa: BLE001  # the rim: one bad request must not stop the others
        log.error("a webhook met a fault of ours: %s", kind_and_place(error))
        taken = Taken(FAULT)
        given.refusals.note(FAULT, given.now_us())
    given.metrics.answered("webhooks", *taken)
    return respond(taken.answer, given)


async def take(request: web.BaseRequest, given: Dependencies) -> Taken:
    """Make one webhook durable. Raises Refused."""
    method = request.method
    path, query = split_target(request.raw_path)
    if not (path.startswith(ROOT) and path[len(ROOT) : len(ROOT) + 1] in ("", "/")):
        raise Refused(NOT_FOUND)
    if method not in ("GET", "POST"):
        raise Refused(METHOD)
    if given.draining:
        raise Refused(DRAINING)
    if method == "GET":
        if not query:
            return Taken(PROBE)
        body = b""
    else:
        body = await read_body(
            request, given.body_limit_bytes, given.read_seconds, given.publisher.in_flight
        )
    content_type = request.headers.get("Content-Type")
    if content_type is not None:
        content_type = content_type[:CONTENT_TYPE_LENGTH]
    holder, path = without_token(path, given.accounts)
    found = detect(method, path, query, content_type, body)
    at_us = given.now_us()
    judged = _UNJUDGED
    if given.accounts is not None:
        authorization = request.headers.get("Authorization")
        judged = _judged(found, authorization, holder, given, given.accounts, at_us)
    return await _keep(found, judged, method, path, at_us, given)


# Nobody is asked: the edge listens on loopback then.
_UNJUDGED = Judged(Verdict.VALID)


def _judged(
    found: Detected | Quarantine,
    authorization: str | None,
    holder: Account | None,
    given: Dependencies,
    accounts: Accounts,
    at_us: int,
) -> Judged:
    """What verification says, counted. Raises Refused."""
    began = perf_counter()
    kind: Kind = kind_of(found)
    judged = judge(
        kind,
        found.value,
        found.content_type,
        authorization,
        holder,
        accounts,
        at_us / 1_000_000,
        given.stale_after,
    )
    given.metrics.verify_seconds.observe(perf_counter() - began)
    refusal = REFUSALS.get(judged.verdict)
    if refusal is not None:
        raise Refused(refusal, judged.account)
    if judged.verified != "none" and judged.account is not None:
        given.metrics.verified(judged.account, kind, at_us)
        if judged.differs:
            given.metrics.account_differs.inc()
    return judged


async def _keep(
    found: Detected | Quarantine,
    judged: Judged,
    method: str,
    path: str,
    at_us: int,
    given: Dependencies,
) -> Taken:
    """Publish under the topic of what it is; what is not understood or too old to quarantine."""
    reason = found.reason.value if isinstance(found, Quarantine) else ""
    if judged.verdict is not Verdict.VALID:
        reason = judged.verdict.value
    account = judged.account or ""
    headers = cloud_event(
        ce_type=TYPE_QUARANTINE if reason or isinstance(found, Quarantine) else found.ce_type,
        ce_id=event_id(method, path, found.value),
        source=f"//{account}{path}" if account else path,
        at_us=at_us,
        content_type=found.content_type,
        verified=judged.verified,
    )
    if given.refusals.is_after(at_us):
        headers.append(("ce_afterrefusal", b"true"))
    if reason or isinstance(found, Quarantine):
        headers.append(("reason", reason.encode()))
        await given.publisher.publish(topics.QUARANTINE, None, found.value, headers)
        return Taken(QUARANTINED, reason, account)
    await given.publisher.publish(found.topic, found.key, found.value, headers)
    return Taken(ACCEPTED, account=account)


def without_token(path: str, accounts: Accounts | None) -> tuple[Account | None, str]:
    """Whose token the first segment is, and the path without it. What looks like a token and is
    none of the live ones is hidden: it may be one of yesterday or of tomorrow."""
    if accounts is None or not accounts.tokens:
        return None, path
    segment, _, rest = path[len(ROOT) + 1 :].partition("/")
    if len(segment) < TOKEN_LENGTH:
        return None, path
    holder = accounts.of_token(segment.encode())
    if holder is None and segment in DOCUMENTED:
        return None, path
    shown = ROOT if holder is not None else f"{ROOT}/{HIDDEN}"
    return holder, f"{shown}/{rest}" if rest else shown


def respond(
    answer: Answer,
    given: Dependencies,
    body: bytes | None = None,
    methods: tuple[str, ...] = ("GET", "POST"),
) -> web.Response:
    """The HTTP response of a row. An empty 200 is all that Vonage looks at. ``methods`` are those
    that the path has, for a 405."""
    if body is None:
        body = b"" if answer.http_status == 200 else answer.name.encode() + b"\n"
    response = web.Response(status=answer.http_status, body=body)
    if body:
        response.content_type = "text/plain"
    if answer is METHOD:
        response.headers["Allow"] = ", ".join(methods)
    if answer is SENDS_UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if given.closing or answer in _LAST:
        response.force_close()
    return response


# What is left of the request would be taken for the next one.
_LAST = (TOO_LARGE, BODY_SLOW, BODY_BROKEN)
