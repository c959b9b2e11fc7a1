"""Plans of the SMS API and the Alerts API."""

from __future__ import annotations

from sendtrace.simulator import endings, expect, sms_payloads
from sendtrace.simulator.endings import SILENT, Story
from sendtrace.simulator.expect import Send, Tale
from sendtrace.simulator.ledger import Message
from sendtrace.simulator.parties import Leg, alert_leg, message_uuid, sms_id
from sendtrace.simulator.plan import Now, Plan
from sendtrace.simulator.sms_payloads import Item
from sendtrace.simulator.webhook import SHAPES, Api, Shape, Told, Webhook

# Also where it is not needed: whoever records sends may have ids of their own.
OWN_ID_SHARE = 0.5


def sms(now: Now) -> Plan:
    """As many messages as the text has parts, each with an ending of its own."""
    party = now.leg("sms")
    shape = now.random.choice(SHAPES)
    if now.happens(now.scenario.shares.unanswered):
        return _unanswered(now, party, "sms", shape)
    if now.happens(now.scenario.shares.stray):
        return now.plan(None, *_stray(now, party, "sms", shape))
    items, stories = _parts(now, party)
    # The parts of a send are known by its id, and so are messages without one of Vonage's.
    is_needed = len(items) > 1 or items[0].message_id is None
    send_id = message_uuid(now.random) if is_needed or now.happens(OWN_ID_SHARE) else None
    times_us = now.times_us()
    ttl_seconds = stories[0].ttl_seconds if stories[0] else None
    messages: list[Message] = []
    webhooks: list[Webhook] = []
    for part, (item, story) in enumerate(zip(items, stories, strict=True), start=1):
        told = now.told(story, party) if story else ()
        message_id = item.message_id or f"{send_id}.{part}"
        messages.append(
            expect.message(
                Tale(
                    message_id, "sms", party, story.ending if story else "refused", now.at_us,
                    now.time_scale, told, Send(send_id, *times_us, part, len(items)),
                    account=party.account, ttl_seconds=ttl_seconds, code=item.status,
                )
            )
        )  # fmt: skip
        webhooks += [sms_payloads.receipt(party, message_id, one, shape) for one in told]
    is_tracked = not any(story and story.ending == "untracked" for story in stories)
    send = sms_payloads.send(
        party, items, times_us, send_id, now.answer_format(), is_tracked, ttl_seconds
    )
    rollups = (expect.rollup(send_id, "parts", messages),) if send_id and len(items) > 1 else ()
    return now.plan(send, webhooks, messages, rollups)


def _parts(now: Now, party: Leg) -> tuple[list[Item], list[Story | None]]:
    """What is answered and told of each. All are refused, or some after the first; a refused one
    has no id, and no story. Receipts and a ttl are asked for once, for all of them."""
    shares = now.scenario.shares
    all_refused = now.happens(shares.refused)
    first = _story(now, party)
    items: list[Item] = []
    stories: list[Story | None] = []
    for index in range(party.segments):
        if all_refused or (index > 0 and now.happens(shares.refused_part)):
            items.append(Item(None, *now.random.choice(sms_payloads.REFUSALS)))
            stories.append(None)
        else:
            items.append(Item(sms_id(now.random)))
            stories.append(_alike(_story(now, party), first) if index else first)
    return items, stories


def _story(now: Now, party: Leg) -> Story:
    return endings.receipt_story(now.random, now.ending(now.scenario.sms, party.network))


def _alike(story: Story, first: Story) -> Story:
    """The story of a further part: what the send asked for is the same."""
    if first.ending in ("untracked", "late"):
        return first
    return SILENT if story.ending in ("untracked", "late") else story


def alert(now: Now) -> Plan:
    """One message, from a template."""
    party = alert_leg(now.random, now.at_us)
    send_id = message_uuid(now.random)
    answer_format = now.answer_format()
    times_us = now.times_us()
    if now.happens(now.scenario.shares.unanswered):
        return _unanswered(now, party, "alerts", "get")
    if now.happens(now.scenario.shares.refused):
        item = Item(None, *now.random.choice(sms_payloads.ALERT_REFUSALS))
        send = sms_payloads.alert_send(party, item, times_us, send_id, answer_format, True)
        refused = Tale(
            f"{send_id}.1", "alerts", party, "refused", now.at_us, now.time_scale,
            send=Send(send_id, *times_us), account=party.account, code=item.status,
        )  # fmt: skip
        return now.plan(send, [], [expect.message(refused)])
    message_id = f"{now.random.getrandbits(64):016X}"
    story = endings.receipt_story(now.random, now.ending(now.scenario.alerts, party.network))
    told = now.told(story, party)
    send = sms_payloads.alert_send(
        party, Item(message_id), times_us, None, answer_format, story.ending != "untracked"
    )
    webhooks = [sms_payloads.receipt(party, message_id, one, "get", "alerts") for one in told]
    tale = Tale(
        message_id, "alerts", party, story.ending, now.at_us, now.time_scale, told,
        Send(None, *times_us), account=party.account,
    )  # fmt: skip
    return now.plan(send, webhooks, [expect.message(tale)])


def _unanswered(now: Now, party: Leg, api: Api, shape: Shape) -> Plan:
    """The call timed out. Vonage took it all the same half of the time, and tells of a message
    whose id nobody knows."""
    send_id = message_uuid(now.random)
    times_us = now.times_us()
    make = sms_payloads.send if api == "sms" else sms_payloads.alert_send
    send = make(party, None, times_us, send_id, "json", True)
    tale = Tale(
        f"{send_id}.1", api, party, "unanswered", now.at_us, now.time_scale,
        send=Send(send_id, times_us[0], None), account=party.account,
    )  # fmt: skip
    webhooks, messages = _stray(now, party, api, shape) if now.happens(0.5) else ([], [])
    return now.plan(send, webhooks, [expect.message(tale), *messages])


def _stray(now: Now, party: Leg, api: Api, shape: Shape) -> tuple[list[Webhook], list[Message]]:
    """Of a message whose send is not told."""
    message_id = sms_id(now.random)
    story = _story(now, party)
    if not story.steps or story.ending == "late":
        # Late is what comes after the deadline of a ttl, which only the send tells.
        story = endings.receipt_story(now.random, "delivered")
    told: tuple[Told, ...] = now.told(story, party)
    webhooks = [sms_payloads.receipt(party, message_id, one, shape, api) for one in told]
    tale = Tale(
        message_id, api, party, story.ending, now.at_us, now.time_scale, told,
        account=now.verified(party.account),
    )  # fmt: skip
    return webhooks, [expect.message(tale)]
