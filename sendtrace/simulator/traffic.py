"""What Vonage would do next: the answer to a send, the webhooks, and how each message must end.

Pure and seeded: the same random source and clock give the same plans. The payloads are written by
this package's own templates and what must follow is worked out here, not by the parsers and rules
under test, or both would share their mistakes.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from sendtrace.simulator import messages_payloads, sms_payloads
from sendtrace.simulator.ledger import Inbound
from sendtrace.simulator.messages_traffic import draw_leg, message
from sendtrace.simulator.parties import message_uuid, sms_id
from sendtrace.simulator.plan import Now, Plan
from sendtrace.simulator.scenario import Scenario
from sendtrace.simulator.sms_traffic import alert, sms
from sendtrace.simulator.webhook import SHAPES


def next_plan(
    random: Random,
    at_us: int,
    scenario: Scenario,
    elapsed_seconds: float = 0.0,
    time_scale: float = 1.0,
    is_verified: bool = True,
) -> Plan:
    """The next thing at ``at_us`` (microseconds since 1970), complete with its future.

    ``elapsed_seconds`` since the scenario began, in its own time, choose the phase.
    """
    now = Now(random, at_us, scenario, scenario.at(elapsed_seconds), time_scale, is_verified)
    shares = scenario.shares
    drawn = random.random()
    if drawn < shares.inbound:
        return _inbound(now)
    drawn -= shares.inbound
    if drawn < shares.sms:
        return sms(now)
    return alert(now) if drawn < shares.sms + shares.alerts else message(now)


def _inbound(now: Now) -> Plan:
    """Somebody wrote: by the SMS API, long texts in parts, or by the Messages API."""
    if now.happens(now.scenario.shares.sms):
        party = now.leg("sms")
        ids = [sms_id(now.random) for _ in range(party.segments)]
        webhooks = sms_payloads.inbound(
            party, ids, now.random.randrange(256), now.at_us, 0.0, now.random.choice(SHAPES)
        )
    else:
        version = now.version()
        party = draw_leg(now, version)
        ids = [message_uuid(now.random)]
        webhooks = [messages_payloads.inbound(party, ids[0], version, now.at_us)]
    lines = tuple(
        Inbound(
            message_id=webhook.message_id, api=webhook.api, channel=party.channel,
            account=now.verified(party.account), planned_at_us=now.at_us,
        )
        for webhook in webhooks
    )  # fmt: skip
    return replace(now.plan(None, webhooks, []), inbound=lines)
