"""How messages end: which statuses Vonage will tell, and which outcome must follow from them.

The outcome stands beside the ending and is worked out here, by hand, from what Vonage documents:
not by the rules under test.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

Ending = Literal[
    "delivered", "read", "rejected", "failed", "undeliverable", "expired", "unknown",
    "contradicted", "intermediate", "silent", "untracked",
]  # fmt: skip
Weights = tuple[tuple[Ending, int], ...]

# In parts of a thousand: mostly well, as in life.
SMS: Weights = (
    ("delivered", 880), ("failed", 35), ("rejected", 15), ("expired", 15), ("unknown", 5),
    ("intermediate", 20), ("silent", 10), ("untracked", 20),
)  # fmt: skip
# Short codes have intermediate receipts rather than a handset's, and none unless asked for.
ALERTS: Weights = (
    ("delivered", 500), ("intermediate", 300), ("failed", 40), ("silent", 10), ("untracked", 150),
)  # fmt: skip
_TEXT: Weights = (
    ("delivered", 890), ("rejected", 45), ("undeliverable", 15), ("contradicted", 10),
    ("intermediate", 30), ("silent", 10),
)  # fmt: skip
_CHAT: Weights = (
    ("delivered", 350), ("read", 570), ("rejected", 40), ("undeliverable", 10),
    ("intermediate", 30),
)  # fmt: skip
# Channels of the Messages API, in parts of a hundred, and how their messages end.
CHANNELS: dict[str, tuple[int, Weights]] = {
    "sms": (56, _TEXT),
    "mms": (4, _TEXT),
    "rcs": (8, _CHAT),
    "whatsapp": (20, _CHAT),
    "messenger": (6, _CHAT),
    "viber_service": (6, _CHAT),
}
# v0.1 knows no RCS.
OLD_CHANNELS = {name: ways for name, ways in CHANNELS.items() if name != "rcs"}

# An ending that is not its own outcome. Deadlines would tell more of the first two one day.
OUTCOME_OF = {"silent": "pending", "intermediate": "pending", "contradicted": "delivered"}

_RECEIPT_CODES = {
    "failed": ("1", "6", "9"),
    "rejected": ("5", "15"),
    "expired": ("2",),
    "unknown": ("1",),
}
_REJECTED_CODES = ("1240", "1280", "1330")


@dataclass(frozen=True)
class Story:
    """What will be told of one message, as (status, code) in order, and how it must end."""

    statuses: tuple[tuple[str, str], ...]
    outcome: str


def draw_channel(random: Random, channels: dict[str, tuple[int, Weights]]) -> str:
    return random.choices(list(channels), [weight for weight, _ in channels.values()])[0]


def sms_story(random: Random, weights: Weights = SMS) -> Story:
    """The receipts of one message of the SMS API or the Alerts API."""
    ending = _draw(random, weights)
    return Story(tuple(_receipts(random, ending)), OUTCOME_OF.get(ending, ending))


def message_story(random: Random, channel: str) -> Story:
    """The statuses of one message of the Messages API."""
    ending = _draw(random, CHANNELS[channel][1])
    return Story(tuple(_statuses(random, ending)), OUTCOME_OF.get(ending, ending))


def _receipts(random: Random, ending: Ending) -> list[tuple[str, str]]:
    if ending in ("silent", "untracked"):
        return []
    if ending == "intermediate":
        # 7 beside `accepted`: the carrier tries again, and nothing is final (FACTS section 5).
        return [random.choice((("accepted", "0"), ("accepted", ""), ("accepted", "7"),
                               ("buffered", "0")))]  # fmt: skip
    code = random.choice(_RECEIPT_CODES.get(ending, ("0",)))
    first = [("accepted", random.choice(("0", "")))] if random.random() < 0.5 else []
    return [*first, (ending, code)]


def _statuses(random: Random, ending: Ending) -> list[tuple[str, str]]:
    submitted = ("submitted", "")
    match ending:
        case "silent":
            return []
        case "intermediate":
            return [("submitted", random.choice(("", "", "1220")))]
        case "read":
            # WhatsApp leaves `delivered` out when both happen at once (FACTS section 3).
            middle = [("delivered", "")] if random.random() < 0.8 else []
            return [submitted, *middle, ("read", "")]
        case "rejected":
            return [submitted, ("rejected", random.choice(_REJECTED_CODES))]
        case "contradicted":
            # Not all segments were confirmed in five minutes, and then they were.
            return [submitted, ("rejected", "1330"), ("delivered", "")]
        case "undeliverable":
            return [("undeliverable", "1260")]
        case _:
            return [submitted, (ending, "")]


def _draw(random: Random, weights: Weights) -> Ending:
    return random.choices([name for name, _ in weights], [weight for _, weight in weights])[0]
