"""What Vonage would do with the next message: the answer, the webhooks, and how it must end.

Pure and seeded: the same random source and clock give the same plans. The payloads are written by
this package's own templates (``payloads.py``) and the expected outcome is worked out here, not by
the parsers and rules under test, or both would share their mistakes.

It refuses real numbers: recipients come from ranges that regulators keep for fiction.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from random import Random
from typing import Literal

from sendtrace.simulator import payloads
from sendtrace.simulator.payloads import Leg, Part, Shape, Webhook

ACCOUNTS = ("a1b2c3d4", "e5f60718")
SENDERS = ("Sendtrace", "447700900001", "12025550142")
# (first digits, digits that vary, network code): Ofcom's and NANPA's ranges for drama.
RANGES = (("447700900", 3, "23410"), ("447700900", 3, "23415"), ("1202555010", 1, "310260"))
PRICES = ("0.03330000", "0.04150000", "0.00640000")

Api = Literal["messages", "sms"]
Ending = Literal[
    "delivered", "read", "rejected", "failed", "undeliverable", "expired", "unknown", "silent",
    "intermediate",
]  # fmt: skip

# How messages end, in parts of a thousand: mostly well, as in life.
SMS_ENDINGS: tuple[tuple[Ending, int], ...] = (
    ("delivered", 900), ("failed", 35), ("rejected", 15), ("expired", 15), ("unknown", 5),
    ("intermediate", 20), ("silent", 10),
)  # fmt: skip
MESSAGES_ENDINGS: tuple[tuple[Ending, int], ...] = (
    ("delivered", 900), ("rejected", 45), ("undeliverable", 15), ("intermediate", 30),
    ("silent", 10),
)  # fmt: skip
CHAT_ENDINGS: tuple[tuple[Ending, int], ...] = (
    ("delivered", 350), ("read", 580), ("rejected", 40), ("intermediate", 30),
)  # fmt: skip
# Nothing final is known: no receipt at all, or only an intermediate one.
OUTCOME_OF = {"silent": "pending", "intermediate": "pending"}
FAILURE_CODES = {
    "failed": ("1", "6", "9"),
    "rejected": ("5", "15"),
    "expired": ("2",),
    "unknown": ("1",),
}
SHAPES: tuple[Shape, ...] = ("json", "form", "get")

REPEAT_SHARE = 0.03
SECOND_PART_SHARE = 0.05
# A webhook can beat the send's own record (FACTS section 7).
LATE_RECORD_SHARE = 0.05


@dataclass(frozen=True)
class Profile:
    """How the traffic looks. Latencies are divided by ``compression``; money and text are not."""

    compression: float = 10.0
    sms_share: float = 0.5
    chat_share: float = 0.3  # of the Messages API's
    repeat_share: float = REPEAT_SHARE


@dataclass(frozen=True)
class Expected:
    """How one message must end when every webhook of its plan has arrived."""

    message_id: str
    api: Api
    outcome: str


@dataclass(frozen=True)
class Plan:
    """One send. ``webhooks`` are sorted by ``after_seconds``, which counts from the answer."""

    send: dict[str, object]
    record_after_seconds: float
    webhooks: tuple[Webhook, ...]
    expected: tuple[Expected, ...]


def next_plan(random: Random, at_us: int, profile: Profile) -> Plan:
    """The next send at ``at_us`` (microseconds since 1970), complete with its future."""
    if random.random() < profile.sms_share:
        return _sms(random, at_us, profile)
    return _messages(random, at_us, profile)


def _sms(random: Random, at_us: int, profile: Profile) -> Plan:
    account, leg = _leg(random, at_us, "sms")
    shape = random.choice(SHAPES)
    ids = [_message_id(random) for _ in range(2 if random.random() < SECOND_PART_SHARE else 1)]
    endings = [_ending(random, SMS_ENDINGS) for _ in ids]
    webhooks: list[Webhook] = []
    for message_id, ending in zip(ids, endings, strict=True):
        part = Part(message_id, account, leg)
        statuses = _sms_statuses(random, ending)
        for status, code, after in _timed(random, statuses, at_us, profile):
            webhooks.append(payloads.receipt(part, status, code, at_us, after, shape))
    return _plan(
        random,
        payloads.sms_send(account, leg, ids, at_us, _answer_us(random)),
        webhooks,
        [_expected(i, "sms", e) for i, e in zip(ids, endings, strict=True)],
        profile,
    )


def _messages(random: Random, at_us: int, profile: Profile) -> Plan:
    is_chat = random.random() < profile.chat_share
    account, leg = _leg(random, at_us, "whatsapp" if is_chat else "sms")
    message_id = _message_id(random)
    ending = _ending(random, CHAT_ENDINGS if is_chat else MESSAGES_ENDINGS)
    part = Part(message_id, account, leg)
    statuses = _message_statuses(random, ending)
    webhooks = [
        payloads.status(part, status, code, at_us, after)
        for status, code, after in _timed(random, statuses, at_us, profile)
    ]
    return _plan(
        random,
        payloads.messages_send(account, leg, message_id, at_us, _answer_us(random)),
        webhooks,
        [_expected(message_id, "messages", ending)],
        profile,
    )


def _expected(message_id: str, api: Api, ending: Ending) -> Expected:
    return Expected(message_id, api, OUTCOME_OF.get(ending, ending))


def _plan(
    random: Random,
    send: dict[str, object],
    webhooks: list[Webhook],
    expected: list[Expected],
    profile: Profile,
) -> Plan:
    repeats = [
        webhook.repeated(_latency_seconds(random, 5.0) / profile.compression)
        for webhook in webhooks
        if random.random() < profile.repeat_share
    ]
    is_late = random.random() < LATE_RECORD_SHARE
    delay = _latency_seconds(random, 3.0) / profile.compression if is_late else 0.0
    in_order = sorted(webhooks + repeats, key=lambda webhook: webhook.after_seconds)
    return Plan(send, delay, tuple(in_order), tuple(expected))


def _sms_statuses(random: Random, ending: Ending) -> list[tuple[str, str]]:
    if ending == "silent":
        return []
    if ending == "intermediate":
        return [(random.choice(("accepted", "buffered")), "0")]
    code = random.choice(FAILURE_CODES[ending]) if ending in FAILURE_CODES else "0"
    first = [("accepted", "0")] if random.random() < 0.5 else []
    return [*first, (ending, code)]


def _message_statuses(random: Random, ending: Ending) -> list[tuple[str, str]]:
    match ending:
        case "silent":
            return []
        case "intermediate":
            return [("submitted", "")]
        case "read":
            # WhatsApp leaves `delivered` out when both happen at once (FACTS section 3).
            middle = [("delivered", "")] if random.random() < 0.8 else []
            return [("submitted", ""), *middle, ("read", "")]
        case "rejected":
            return [("submitted", ""), ("rejected", random.choice(("1240", "1280", "1330")))]
        case "undeliverable":
            return [("undeliverable", "1260")]
        case _:
            return [("submitted", ""), (ending, "")]


def _timed(
    random: Random, statuses: list[tuple[str, str]], at_us: int, profile: Profile
) -> list[tuple[str, str, float]]:
    """Each status with its seconds after the answer: later ones later, as Vonage's clock has it."""
    after = 0.0
    timed = []
    for index, (status, code) in enumerate(statuses):
        after += _latency_seconds(random, 0.5 if index == 0 else 6.0) / profile.compression
        timed.append((status, code, after))
    return timed


def _latency_seconds(random: Random, median_seconds: float) -> float:
    """Log-normal, as delivery latencies are; one in a thousand is some twenty times the median."""
    return min(median_seconds * random.lognormvariate(0.0, 1.0), 100 * median_seconds)


def _answer_us(random: Random) -> int:
    return int(_latency_seconds(random, 0.12) * 1_000_000)


def _leg(random: Random, at_us: int, channel: str) -> tuple[str, Leg]:
    prefix, digits, network = random.choice(RANGES)
    number = f"{prefix}{random.randrange(10**digits):0{digits}d}"
    campaign = f"campaign-{at_us // 3_600_000_000 % 24}"
    return random.choice(ACCOUNTS), Leg(
        sender=random.choice(SENDERS),
        recipient=number,
        channel=channel,
        network=network,
        price=random.choice(PRICES),
        client_ref=campaign,
        text=f"Your code is {random.randrange(1_000_000):06d}",
    )


def _ending(random: Random, endings: tuple[tuple[Ending, int], ...]) -> Ending:
    names = [name for name, _ in endings]
    return random.choices(names, [weight for _, weight in endings])[0]


def _message_id(random: Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))
