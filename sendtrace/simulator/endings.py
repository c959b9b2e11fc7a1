"""How messages end: what Vonage will tell of each, and what must follow from that.

What must follow stands in tables and is worked out here, by hand, from what Vonage documents: not
by the rules under test. ``told`` holds once the edge has taken everything, ``settled`` once every
deadline went by as well.

| ending | what is told |
|---|---|
| late | the last word comes long after the ttl: its deadline went by first |
| skewed | Vonage's servers disagree: delivered is stamped before it was handed over |
| mended | a time with backslashes in it, as a document shows it |
| strange | a code that no document has |
| withdrawn | a status `revoked`, which no document has, about what nobody asked to take back |
| ttl_silent | v0.1 with a ttl that ran out: no callbacks, and no charge (code 1360) |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

Ending = Literal[
    "delivered", "read", "rejected", "failed", "undeliverable", "expired", "unknown",
    "contradicted", "intermediate", "retrying", "silent", "untracked", "late", "skewed", "mended",
    "strange", "withdrawn", "ttl_silent",
]  # fmt: skip
# What happens to a send before any webhook.
Fate = Literal["refused", "unanswered"]


@dataclass(frozen=True)
class Verdict:
    """An outcome, and the flags that must be there with it. ``possible`` ones may be."""

    outcome: str
    is_final: bool = True
    flags: tuple[str, ...] = ()
    possible: tuple[str, ...] = ()


def _final(outcome: str, *flags: str) -> tuple[Verdict, Verdict]:
    verdict = Verdict(outcome, flags=flags)
    return verdict, verdict


def _open(outcome: str, *flags: str) -> Verdict:
    return Verdict(outcome, False, flags)


NOTHING_CAME = ("no_first_event", "overdue")

# Told, and settled.
VERDICTS: Mapping[Ending | Fate, tuple[Verdict, Verdict]] = {
    "delivered": _final("delivered"),
    "read": _final("read"),
    "rejected": _final("rejected"),
    "failed": _final("failed"),
    "undeliverable": _final("undeliverable"),
    # Where time runs fast, the hour between Vonage's 72 and the deadline is soon over.
    "expired": (Verdict("expired", possible=("late",)),) * 2,
    "contradicted": _final("delivered", "contradiction"),
    "late": _final("delivered", "late"),
    "skewed": _final("delivered", "clock_skew"),
    "mended": _final("delivered", "mended_time"),
    "strange": _final("failed", "unknown_code"),
    "refused": _final("refused"),
    "unknown": (_open("unknown"), _open("unknown", "overdue")),
    "withdrawn": (_open("unknown"), _open("unknown", "overdue")),
    "intermediate": (_open("pending"), _open("unconfirmed", "overdue")),
    # The carrier is said to try again, until it is too late for that.
    "retrying": (_open("pending", "retrying"), _open("unconfirmed", "overdue")),
    "silent": (
        Verdict("pending", False, (), ("no_first_event",)),
        Verdict("missing", False, NOTHING_CAME),
    ),
    "ttl_silent": (
        Verdict("pending", False, (), ("no_first_event",)),
        Verdict("expired", True, NOTHING_CAME),
    ),
    "untracked": (Verdict("untracked", False),) * 2,
    "unanswered": (Verdict("unanswered", False, ("unanswered",)),) * 2,
}

HOUR = 3600.0
EXPIRES_AFTER_SECONDS = 72 * HOUR  # Vonage makes the receipt up (docs/vonage.md 5)
SHORT_TTL_SECONDS = 300
LATE_AFTER_SECONDS = 24 * HOUR

_RECEIPT_CODES: Mapping[Ending, tuple[str, ...]] = {
    "failed": ("1", "6", "9", "3", "12"),
    "rejected": ("5", "15", "51"),
    "expired": ("2",),
    "unknown": ("1",),
    "strange": ("77",),
}
_STATUS_CODES: Mapping[Ending, tuple[str, ...]] = {
    "rejected": ("1240", "1280", "1330"),
    "undeliverable": ("1260",),
    "contradicted": ("1330",),
}
# What is told besides: the word, where it is not the ending's own name.
_WORDS: Mapping[Ending, str] = {
    "late": "delivered", "skewed": "delivered", "mended": "delivered", "strange": "failed",
    "contradicted": "delivered", "withdrawn": "revoked",
}  # fmt: skip
# What one API has no word for is told with the nearest that it has (docs/vonage.md 5).
_AS_RECEIPTS: Mapping[Ending, Ending] = {
    "read": "delivered", "undeliverable": "failed", "ttl_silent": "silent", "withdrawn": "unknown",
}  # fmt: skip
_AS_STATUSES: Mapping[Ending, Ending] = {
    "failed": "rejected", "strange": "rejected", "expired": "rejected", "unknown": "intermediate",
    "untracked": "silent", "mended": "delivered",
}  # fmt: skip
READ_SECONDS = 30.0  # until somebody looks at it
_WAITS: Mapping[Ending, float] = {"expired": EXPIRES_AFTER_SECONDS, "late": LATE_AFTER_SECONDS}


@dataclass(frozen=True)
class Step:
    """One thing that is told: status, code, and the seconds since the one before (None: as long as
    the carrier takes)."""

    status: str
    code: str = ""
    wait_seconds: float | None = None


@dataclass(frozen=True)
class Story:
    """What will be told of one message, in order, and what kind of end that is."""

    ending: Ending
    steps: tuple[Step, ...] = ()

    @property
    def ttl_seconds(self) -> int | None:
        """Of the send."""
        return SHORT_TTL_SECONDS if self.ending in ("late", "ttl_silent") else None


SILENT = Story("silent")


def draw(random: Random, weights: Mapping[Ending, int]) -> Ending:
    return random.choices(list(weights), list(weights.values()))[0]


def receipt_story(random: Random, drawn: Ending) -> Story:
    """The receipts of one message of the SMS API or the Alerts API."""
    ending = _AS_RECEIPTS.get(drawn, drawn)
    match ending:
        case "silent" | "untracked":
            return Story(ending)
        case "intermediate":
            step = random.choice((("accepted", "0"), ("accepted", ""), ("buffered", "0")))
            return Story(ending, (Step(*step, 0.5),))
        case "retrying":
            # 7 beside `accepted`: the carrier tries again, and nothing is final (docs/vonage.md 5).
            return Story(ending, (Step("accepted", "7", 0.5),))
    first: list[Step] = []
    # Two clocks disagree only where both speak.
    if ending in ("contradicted", "skewed") or random.random() < 0.5:
        first = [Step("accepted", random.choice(("0", "")), 0.5)]
    if ending == "contradicted":
        return Story(ending, (*first, *_in_any_order(random, Step("failed", "1"))))
    code = random.choice(_RECEIPT_CODES.get(ending, ("0",)))
    return Story(ending, (*first, Step(_WORDS.get(ending, ending), code, _WAITS.get(ending))))


def status_story(random: Random, drawn: Ending, is_chat: bool) -> Story:
    """The statuses of one message of the Messages API."""
    ending = _AS_STATUSES.get(drawn, drawn)
    if ending == "read" and not is_chat:
        ending = "delivered"
    submitted = Step("submitted", "", 0.5)
    code = random.choice(_STATUS_CODES.get(ending, ("",)))
    match ending:
        case "silent" | "ttl_silent":
            return Story(ending)
        case "intermediate":
            return Story(ending, (submitted,))
        case "retrying":
            return Story(ending, (Step("submitted", "1220", 0.5),))
        case "read":
            # WhatsApp leaves `delivered` out when both happen at once (docs/vonage.md 3).
            if random.random() < 0.2:
                return Story(ending, (submitted, Step("read")))
            return Story(ending, (submitted, Step("delivered"), Step("read", "", READ_SECONDS)))
        case "contradicted":
            # Not all segments were confirmed in five minutes, and then they were.
            return Story(ending, (submitted, *_in_any_order(random, Step("rejected", code))))
        case "undeliverable":
            return Story(ending, (Step("undeliverable", code, 0.5),))
        case _:
            last = Step(_WORDS.get(ending, ending), code, _WAITS.get(ending))
            return Story(ending, (submitted, last))


def _in_any_order(random: Random, failure: Step) -> tuple[Step, Step]:
    """A failure and a delivery. Whichever is told last, it was delivered."""
    delivered = Step("delivered")
    return (failure, delivered) if random.random() < 0.5 else (delivered, failure)
