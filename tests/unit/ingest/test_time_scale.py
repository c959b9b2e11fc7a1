"""SENDTRACE_TIME_SCALE at the edge: what it divides, and what it must leave alone."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import msgspec
import pytest
from aiokafka.errors import OutOfOrderSequenceNumber

from ingest.app import dependencies
from ingest.beside import beside, pulses
from ingest.verify import SMS_STALE_AFTER_S, judge, stale_after
from processors.join.gaps import Gaps
from schemas.codec import header
from schemas.pulses import decode_pulse, every_seconds
from schemas.vonage import sms
from schemas.vonage.signing import AHEAD_S, STALE_AFTER_S, Verdict
from sendtrace.runtime.accounts import parse
from sendtrace.runtime.settings import Settings

from fakes.edge import Edge
from fakes.signed import NOW_S, RECEIPT, SECRET, STATUS, jwt, signed_form

SCALE = 1000.0
ACCOUNTS = parse(
    '[accounts.abcd1234]\nsig_method="sha256"\nsignature_secrets=["s"]',
    {"s": SECRET.decode()}.__getitem__,
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, time_scale=SCALE)


def judged_jwt(age_s: float, scale: float) -> Verdict:
    token = jwt(STATUS, iat=NOW_S - age_s)
    stale = stale_after(scale)
    return judge("messages", STATUS, None, token, None, ACCOUNTS, NOW_S, stale).verdict


def judged_sms(age_s: float, scale: float) -> Verdict:
    body = signed_form({**RECEIPT, "timestamp": str(int(NOW_S - age_s))})
    stale = stale_after(scale)
    return judge("receipt", body, sms.FORM, None, None, ACCOUNTS, NOW_S, stale).verdict


@pytest.mark.parametrize("scale", [1.0, 10.0, SCALE])
def test_stale_windows_are_divided(scale: float) -> None:
    """Vonage's timestamp and our clock are real ones; the time for which it repeats is not."""
    jwt_s, sms_s = STALE_AFTER_S / scale, SMS_STALE_AFTER_S / scale
    assert judged_jwt(jwt_s - 1, scale) is Verdict.VALID
    assert judged_jwt(jwt_s + 1, scale) is Verdict.STALE
    assert judged_sms(sms_s - 1, scale) is Verdict.VALID
    assert judged_sms(sms_s + 2, scale) is Verdict.STALE


async def test_the_edge_judges_by_the_divided_window(edge: Edge) -> None:
    edge.given.accounts = ACCOUNTS
    edge.given.now_us = lambda: int(NOW_S * 1_000_000)
    window_s = STALE_AFTER_S / SCALE
    for age_s in (window_s - 1, window_s + 1):
        headers = {"Authorization": jwt(STATUS, iat=NOW_S - age_s)}
        await edge.session.post(f"{edge.public}/webhooks/x", data=STATUS, headers=headers)
    assert edge.count("accepted") == 1
    assert edge.count("quarantined", reason="stale") == 1


@pytest.mark.parametrize("scale", [1.0, SCALE])
def test_how_far_two_clocks_may_differ_is_not(scale: float) -> None:
    assert judged_jwt(-AHEAD_S + 1, scale) is Verdict.VALID
    assert judged_jwt(-AHEAD_S - 1, scale) is Verdict.FUTURE
    assert judged_sms(-AHEAD_S + 1, scale) is Verdict.VALID
    assert judged_sms(-AHEAD_S - 2, scale) is Verdict.FUTURE


async def test_what_comes_after_a_refusal_is_marked_for_15_minutes_divided(edge: Edge) -> None:
    url = f"{edge.public}/webhooks/x"
    edge.log.failing.append(OutOfOrderSequenceNumber())
    await edge.session.post(url, data=STATUS)
    refused_us = edge.given.refusals.last_us
    assert refused_us is not None
    for after_us in (900_000, 900_001):
        edge.given.now_us = lambda at_us=refused_us + after_us: at_us  # type: ignore[misc]
        await edge.session.post(url, data=STATUS)
    records = edge.log.records("sendtrace.statuses")
    assert [header(e.headers, "ce_afterrefusal") for e in records] == ["true", None]
    # When it arrived is a timestamp.
    times = [header(e.headers, "ce_time") for e in records]
    assert times[0] != times[1]


async def test_pulses_come_faster(edge: Edge, settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, time_scale=50.0)
    # Each 0.2 s, where ten would be usual: a busy machine may leave some out.
    async with beside(pulses(edge.given, settings), edge.publisher.broken), asyncio.timeout(9):
        while len(entries := edge.log.records("sendtrace.pulses", 0)) < 4:
            await asyncio.sleep(0.01)
    at_us = [decode_pulse(entry.value or b"").at_us for entry in entries]
    assert all(later - earlier >= 200_000 for earlier, later in pairwise(at_us))


@pytest.mark.parametrize(
    ("scale", "seconds"), [(1.0, 10.0), (10.0, 1.0), (50.0, 0.2), (10_000.0, 0.2)]
)
def test_edge_and_joiner_agree_on_the_pause(scale: float, seconds: float) -> None:
    assert every_seconds(scale) == pytest.approx(seconds)
    pause_us = int(every_seconds(scale) * 1_000_000)
    gaps = Gaps()
    for number in range(5):
        gaps = gaps.with_pulse(number * pause_us, scale)
    now_us = 4 * pause_us
    assert gaps.until(now_us + 3 * pause_us, scale) == ()
    assert gaps.until(now_us + 3 * pause_us + 1, scale) == ((now_us, now_us + 3 * pause_us + 1),)


def test_budgets_and_bounds_are_never_divided(edge: Edge, settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, time_scale=50.0)
    given = dependencies(settings, edge.publisher, edge.given.metrics)
    assert given.read_seconds == settings.edge_budget_seconds
    assert given.body_limit_bytes == settings.edge_body_limit_bytes
