"""What Vonage would do next: the answer to a send, the webhooks, and how each message must end.

Pure and seeded: the same random source and clock give the same plans. The payloads are written by
this package's own templates and the expected outcome is worked out here, not by the parsers and
rules under test, or both would share their mistakes.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from sendtrace.simulator import endings, messages_payloads, sms_payloads
from sendtrace.simulator.endings import Story, draw_channel, message_story, sms_story
from sendtrace.simulator.messages_payloads import Version
from sendtrace.simulator.parties import alert_leg, leg, message_uuid, sms_id
from sendtrace.simulator.sms_payloads import AnswerFormat, Item
from sendtrace.simulator.webhook import SHAPES, Api, Webhook

# A webhook can beat the send's own record (FACTS section 7).
LATE_RECORD_SHARE = 0.05
XML_SHARE = 0.2
REFUSED_PART_SHARE = 0.1  # of the parts after the first

REFUSED = Story((), "refused")
SILENT = Story((), "pending")


@dataclass(frozen=True)
class Profile:
    """How the traffic looks. Latencies are divided by ``compression``; money and text are not.

    The shares of the SMS API, the Alerts API and inbound messages are of all; what is left is the
    Messages API's.
    """

    compression: float = 10.0
    sms_share: float = 0.4
    alerts_share: float = 0.08
    inbound_share: float = 0.05
    old_share: float = 0.2  # v0.1, of the Messages API's
    refused_share: float = 0.02
    repeat_share: float = 0.03


@dataclass(frozen=True)
class Expected:
    """How one message must end when every webhook of its plan has arrived."""

    message_id: str
    api: Api
    outcome: str


@dataclass(frozen=True)
class Plan:
    """One send, or without one an inbound message, which has no outcome. ``webhooks`` are sorted
    by ``after_seconds``, which counts from the answer."""

    send: dict[str, object] | None
    record_after_seconds: float
    webhooks: tuple[Webhook, ...]
    expected: tuple[Expected, ...]
    inbound: tuple[str, ...] = ()  # ids of what comes in


@dataclass(frozen=True)
class _Moment:
    """What every step needs: where chance comes from, when it is, and how traffic looks."""

    random: Random
    at_us: int
    profile: Profile

    def happens(self, share: float) -> bool:
        return self.random.random() < share

    def after_seconds(self, median_seconds: float) -> float:
        return _latency_seconds(self.random, median_seconds) / self.profile.compression

    def times_us(self) -> tuple[int, int]:
        """Of the request and of its answer, which is now."""
        return self.at_us - int(_latency_seconds(self.random, 0.12) * 1_000_000), self.at_us

    def answer_format(self) -> AnswerFormat:
        return "xml" if self.happens(XML_SHARE) else "json"

    def version(self) -> Version:
        return "v0.1" if self.happens(self.profile.old_share) else "v1"


def next_plan(random: Random, at_us: int, profile: Profile) -> Plan:
    """The next thing at ``at_us`` (microseconds since 1970), complete with its future."""
    now = _Moment(random, at_us, profile)
    drawn = random.random()
    if drawn < profile.inbound_share:
        return _inbound(now)
    drawn -= profile.inbound_share
    if drawn < profile.sms_share:
        return _sms(now)
    return _alert(now) if drawn < profile.sms_share + profile.alerts_share else _message(now)


def _sms(now: _Moment) -> Plan:
    """As many messages as the text has parts, each with an ending of its own."""
    party = leg(now.random, now.at_us, "sms")
    shape = now.random.choice(SHAPES)
    send_id = message_uuid(now.random)
    items, stories = _parts(now, party.segments)
    expected: list[Expected] = []
    webhooks: list[Webhook] = []
    for part, (item, story) in enumerate(zip(items, stories, strict=True), start=1):
        message_id = item.message_id or f"{send_id}.{part}"
        expected.append(Expected(message_id, "sms", story.outcome))
        for status, after in _timed(now, story):
            webhooks.append(
                sms_payloads.receipt(party, message_id, status, now.at_us, after, shape)
            )
    # With an id of the caller's, the messages without one of Vonage's can be foretold.
    needed = send_id if any(item.message_id is None for item in items) else None
    is_tracked = not any(story.outcome == "untracked" for story in stories)
    send = sms_payloads.send(party, items, now.times_us(), needed, now.answer_format(), is_tracked)
    return _plan(now, send, webhooks, expected)


def _parts(now: _Moment, count: int) -> tuple[list[Item], list[Story]]:
    """What is answered and told of each. All are refused, or some after the first; a refused one
    has no id. Receipts are asked for once, for all of them."""
    all_refused = now.happens(now.profile.refused_share)
    first = sms_story(now.random)
    items, stories = [], []
    for index in range(count):
        if all_refused or (index > 0 and now.happens(REFUSED_PART_SHARE)):
            items.append(Item(None, *now.random.choice(sms_payloads.REFUSALS)))
            stories.append(REFUSED)
        else:
            items.append(Item(sms_id(now.random)))
            stories.append(_alike(sms_story(now.random), first) if index else first)
    return items, stories


def _alike(story: Story, first: Story) -> Story:
    if first.outcome == "untracked":
        return first
    return SILENT if story.outcome == "untracked" else story


def _alert(now: _Moment) -> Plan:
    party = alert_leg(now.random, now.at_us)
    answer_format = now.answer_format()
    if now.happens(now.profile.refused_share):
        send_id = message_uuid(now.random)
        item = Item(None, *now.random.choice(sms_payloads.ALERT_REFUSALS))
        send = sms_payloads.alert_send(party, item, now.times_us(), send_id, answer_format, True)
        return _plan(now, send, [], [Expected(f"{send_id}.1", "alerts", "refused")])
    message_id = f"{now.random.getrandbits(64):016X}"
    story = sms_story(now.random, endings.ALERTS)
    send = sms_payloads.alert_send(
        party,
        Item(message_id),
        now.times_us(),
        None,
        answer_format,
        story.outcome != "untracked",
    )
    webhooks = [
        sms_payloads.receipt(party, message_id, status, now.at_us, after, "get", "alerts")
        for status, after in _timed(now, story)
    ]
    return _plan(now, send, webhooks, [Expected(message_id, "alerts", story.outcome)])


def _message(now: _Moment) -> Plan:
    version = now.version()
    channels = endings.CHANNELS if version == "v1" else endings.OLD_CHANNELS
    party = leg(now.random, now.at_us, draw_channel(now.random, channels))
    if now.happens(now.profile.refused_share):
        send_id = message_uuid(now.random)
        refusal = now.random.randrange(len(messages_payloads.REFUSALS))
        send = messages_payloads.refused_send(party, refusal, version, now.times_us(), send_id)
        return _plan(now, send, [], [Expected(f"{send_id}.1", "messages", "refused")])
    message_id = message_uuid(now.random)
    story = message_story(now.random, party.channel)
    webhooks = [
        messages_payloads.status(party, message_id, status, version, now.at_us, after)
        for status, after in _timed(now, story)
    ]
    send = messages_payloads.send(party, message_id, version, now.times_us())
    return _plan(now, send, webhooks, [Expected(message_id, "messages", story.outcome)])


def _inbound(now: _Moment) -> Plan:
    """Somebody wrote: by the SMS API, long texts in parts, or by the Messages API."""
    if now.happens(now.profile.sms_share):
        party = leg(now.random, now.at_us, "sms")
        ids = [sms_id(now.random) for _ in range(party.segments)]
        webhooks = sms_payloads.inbound(
            party, ids, now.random.randrange(256), now.at_us, 0.0, now.random.choice(SHAPES)
        )
    else:
        version = now.version()
        channels = endings.CHANNELS if version == "v1" else endings.OLD_CHANNELS
        party = leg(now.random, now.at_us, draw_channel(now.random, channels))
        ids = [message_uuid(now.random)]
        webhooks = [messages_payloads.inbound(party, ids[0], version, now.at_us, 0.0)]
    return Plan(None, 0.0, _with_repeats(now, webhooks), (), tuple(ids))


def _plan(
    now: _Moment, send: dict[str, object], webhooks: list[Webhook], expected: list[Expected]
) -> Plan:
    delay = now.after_seconds(3.0) if now.happens(LATE_RECORD_SHARE) else 0.0
    return Plan(send, delay, _with_repeats(now, webhooks), tuple(expected))


def _with_repeats(now: _Moment, webhooks: list[Webhook]) -> tuple[Webhook, ...]:
    repeats = [
        webhook.repeated(now.after_seconds(5.0))
        for webhook in webhooks
        if now.happens(now.profile.repeat_share)
    ]
    return tuple(sorted(webhooks + repeats, key=lambda webhook: webhook.after_seconds))


def _timed(now: _Moment, story: Story) -> list[tuple[tuple[str, str], float]]:
    """Each status with its seconds after the answer: later ones later, as Vonage's clock has it."""
    after = 0.0
    timed = []
    for index, status in enumerate(story.statuses):
        after += now.after_seconds(0.5 if index == 0 else 6.0)
        timed.append((status, after))
    return timed


def _latency_seconds(random: Random, median_seconds: float) -> float:
    """Log-normal, as delivery latencies are; one in a thousand is some twenty times the median."""
    return min(median_seconds * random.lognormvariate(0.0, 1.0), 100 * median_seconds)
