"""Plans of the Messages API, failover among them."""

from __future__ import annotations

from dataclasses import replace

from sendtrace.simulator import endings, expect, messages_payloads
from sendtrace.simulator.endings import Ending, Story
from sendtrace.simulator.expect import Send, Tale
from sendtrace.simulator.ledger import Message
from sendtrace.simulator.messages_payloads import Version
from sendtrace.simulator.parties import Leg, message_uuid, other_account
from sendtrace.simulator.plan import Now, Plan
from sendtrace.simulator.scenario import TEXT_CHANNELS
from sendtrace.simulator.webhook import Told, Webhook, Workflow

OWN_ID_SHARE = 0.5
# What is tried before an SMS; v0.1 knows neither RCS nor failover.
FAILOVER_FROM = ("rcs", "whatsapp", "viber_service")
NOT_IN_OLD = ("rcs",)
# How the first of a failover ends: only `rejected` is what triggers the next (docs/vonage.md 8).
_FIRST: dict[Ending, int] = {"rejected": 5, "delivered": 2, "read": 2, "intermediate": 1}
# Vonage tells the segments' times, or only how many there are.
DETAIL_SHARE = 0.5


def draw_leg(now: Now, version: Version) -> Leg:
    channels = {
        name: weight
        for name, weight in now.scenario.channels.items()
        if version == "v1" or name not in NOT_IN_OLD
    }
    if not sum(channels.values()):
        channels = {"sms": 1}
    channel = now.random.choices(list(channels), list(channels.values()))[0]
    return now.leg(channel)


def message(now: Now) -> Plan:
    """One message, whatever its segments; or a failover."""
    shares = now.scenario.shares
    version = now.version()
    party = draw_leg(now, version)
    send_id = message_uuid(now.random)
    times_us = now.times_us()
    if now.happens(shares.refused):
        return _refused(now, party, version, send_id, times_us)
    if now.happens(shares.unanswered):
        return _unanswered(now, party, version, send_id, times_us)
    if version == "v1" and party.channel in FAILOVER_FROM and now.happens(shares.failover):
        return _failover(now, party, send_id, times_us)
    story = _story(now, party)
    is_stray = story.steps and story.ending != "late" and now.happens(shares.stray)
    if story.ending == "ttl_silent":
        # Only of v0.1 it is said that nothing comes then; and that knows no RCS.
        version = "v0.1"
        story = Story("silent") if party.channel in NOT_IN_OLD else story
        version = "v1" if party.channel in NOT_IN_OLD else version
    message_id = message_uuid(now.random)
    known_id = send_id if now.happens(OWN_ID_SHARE) else None
    tale = Tale(
        message_id, "messages", party, story.ending, now.at_us, now.time_scale,
        send=None if is_stray else Send(known_id, *times_us), version=version,
        account=now.verified(party.account) if is_stray else party.account,
        ttl_seconds=story.ttl_seconds,
    )  # fmt: skip
    webhooks, expected = _tell(now, tale, story)
    send = None if is_stray else messages_payloads.send(
        party, message_id, version, times_us, known_id, story.ttl_seconds
    )  # fmt: skip
    return now.plan(send, webhooks, [expected])


def _story(now: Now, party: Leg) -> Story:
    is_text = party.channel in TEXT_CHANNELS
    ending = now.ending(now.scenario.of_channel(party.channel), party.network, is_sms=is_text)
    story = endings.status_story(now.random, ending, is_chat=not is_text)
    if len(story.steps) > 1 and story.ending != "skewed" and now.happens(now.scenario.shares.lost):
        return Story(story.ending, story.steps[1:])
    return story


def _tell(
    now: Now, tale: Tale, story: Story, begin_seconds: float = 0.0, workflow: Workflow | None = None
) -> tuple[list[Webhook], Message]:
    """The webhooks of one message, and what must follow from them."""
    version = tale.version
    assert version is not None
    told = now.told(story, tale.leg, begin_seconds)
    tale = replace(tale, told=told)
    if version == "v1" and tale.leg.channel == "sms" and tale.leg.segments > 1:
        has_detail = now.happens(DETAIL_SHARE) and story.ending != "skewed"
        told = tuple([_with_segments(now, one, told[0], tale.leg) for one in told])
        tale = replace(tale, told=told) if has_detail else replace(tale, is_aggregated=True)
    webhooks = [
        messages_payloads.status(tale.leg, tale.message_id, one, version, workflow)
        for one in tale.told
    ]
    is_final = bool(told) and endings.VERDICTS[story.ending][0].is_final
    shares = now.scenario.shares
    if now.is_verified and is_final and tale.send is not None and now.happens(shares.foreign):
        # As if another customer had our ids: it must change nothing, and be seen.
        foreign = Told("rejected", "1240", told[-1].at_us, told[-1].after_seconds)
        webhook = messages_payloads.status(tale.leg, tale.message_id, foreign, version)
        webhooks.append(replace(webhook, account=other_account(tale.leg.account)))
        tale = replace(tale, foreign=((foreign.status, foreign.code),))
    return webhooks, expect.message(tale)


def _with_segments(now: Now, told: Told, first: Told, party: Leg) -> Told:
    """Segments arrive one after the other; then Vonage tells of all at once."""
    if told.status != "delivered":
        return told
    span_us = told.at_us - first.at_us
    times = sorted(first.at_us + int(span_us * now.random.random()) for _ in range(party.segments))
    return replace(told, segments_at_us=tuple(times))


def _failover(now: Now, party: Leg, send_id: str, times_us: tuple[int, int]) -> Plan:
    """RCS or a chat first, an SMS if that is rejected: two messages, of which the answer has the
    first one's id only. The second has no send of its own."""
    second = replace(now.leg("sms", party.network), account=party.account,
                     recipient=party.recipient, client_ref=party.client_ref)  # fmt: skip
    ids = [message_uuid(now.random), message_uuid(now.random)]
    workflow_id = message_uuid(now.random)
    story = endings.status_story(now.random, endings.draw(now.random, _FIRST), is_chat=True)
    first = Tale(
        ids[0], "messages", party, story.ending, now.at_us, now.time_scale,
        send=Send(send_id, *times_us), version="v1", account=party.account,
        workflow_id=workflow_id,
    )  # fmt: skip
    webhooks, expected = _tell(now, first, story, workflow=Workflow(workflow_id, 1, 2))
    messages = [expected]
    if story.ending == "rejected":
        begin = max(webhook.after_seconds for webhook in webhooks)
        next_story = _story(now, second)
        if not next_story.steps or next_story.ending == "late":
            next_story = endings.status_story(now.random, "delivered", is_chat=False)
        tale = Tale(
            ids[1], "messages", second, next_story.ending, now.at_us, now.time_scale,
            version="v1", account=now.verified(party.account), workflow_id=workflow_id,
        )  # fmt: skip
        more, expected = _tell(now, tale, next_story, begin, Workflow(workflow_id, 2, 2))
        webhooks += more
        messages.append(expected)
    send = messages_payloads.failover_send([party, second], ids[0], workflow_id, times_us, send_id)
    return now.plan(send, webhooks, messages, (expect.rollup(workflow_id, "failover", messages),))


def _refused(
    now: Now, party: Leg, version: Version, send_id: str, times_us: tuple[int, int]
) -> Plan:
    refusal = now.random.randrange(len(messages_payloads.REFUSALS))
    send = messages_payloads.refused_send(party, refusal, version, times_us, send_id)
    tale = Tale(
        f"{send_id}.1", "messages", party, "refused", now.at_us, now.time_scale,
        send=Send(send_id, *times_us), version=version, account=party.account,
        code=str(messages_payloads.REFUSALS[refusal][0]),
    )  # fmt: skip
    return now.plan(send, [], [expect.message(tale)])


def _unanswered(
    now: Now, party: Leg, version: Version, send_id: str, times_us: tuple[int, int]
) -> Plan:
    """The call timed out, and nothing more is heard of it."""
    send = messages_payloads.unanswered_send(party, version, times_us, send_id)
    tale = Tale(
        f"{send_id}.1", "messages", party, "unanswered", now.at_us, now.time_scale,
        send=Send(send_id, times_us[0], None), version=version, account=party.account,
    )  # fmt: skip
    return now.plan(send, [], [expect.message(tale)])
