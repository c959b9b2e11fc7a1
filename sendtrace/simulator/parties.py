"""Who writes to whom: accounts, senders, recipients, prices. Seeded, and nobody is real.

Recipients come from ranges that regulators keep for fiction; ids of Messenger are made up.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from random import Random

# `sendtrace up` makes secrets for these (sendtrace/local/secrets.py).
ACCOUNTS = ("a1b2c3d4", "e5f60718")
# Receipts of the Alerts API are not signed and look like those of the SMS API, so they come to an
# account whose SMS receipts need no signature either: else the strictest policy would refuse them.
ALERTS_ACCOUNT = "a1b2c3d4"

SENDERS = ("Sendtrace", "447700900001", "12025550142")
SHORT_CODE = "96167"
MESSENGER_PAGE = "107083064136738"
# (first digits, digits that vary, network code): Ofcom's and NANPA's ranges for drama.
AMERICAN = ("1202555010", 1, "310260")
RANGES = (("447700900", 3, "23410"), ("447700900", 3, "23415"), AMERICAN)
PRICES = ("0.03330000", "0.04150000", "0.00640000")
LONG_SHARE = 0.08


@dataclass(frozen=True)
class Leg:
    """From whom to whom, and what it costs."""

    account: str
    sender: str
    recipient: str
    channel: str
    network: str
    price: str
    client_ref: str
    text: str

    @property
    def segments(self) -> int:
        """How many SMS the text takes, in the alphabet of GSM."""
        return 1 if len(self.text) <= 160 else -(-len(self.text) // 153)


def leg(random: Random, at_us: int, channel: str) -> Leg:
    """Of the SMS API or the Messages API."""
    number, network = _number(random, random.choice(RANGES))
    sender = random.choice(SENDERS)
    if channel == "messenger":
        sender, number = MESSENGER_PAGE, str(random.randrange(10**14, 10**15))
    elif channel in ("whatsapp", "mms"):
        sender = SENDERS[1]
    return Leg(
        account=random.choice(ACCOUNTS),
        sender=sender,
        recipient=number,
        channel=channel,
        network=network,
        price=random.choice(PRICES),
        client_ref=f"campaign-{at_us // 3_600_000_000 % 24}",
        text=_text(random),
    )


def alert_leg(random: Random, at_us: int) -> Leg:
    """Of the Alerts API: from a short code to a number in the United States."""
    number, network = _number(random, AMERICAN)
    return Leg(
        account=ALERTS_ACCOUNT,
        sender=SHORT_CODE,
        recipient=number,
        channel="sms",
        network=network,
        price=random.choice(PRICES),
        client_ref=f"alert-{at_us // 3_600_000_000 % 24}",
        text="",
    )


def message_uuid(random: Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def sms_id(random: Random) -> str:
    """A UUID, or the 16 digits of old that the documents still show."""
    return f"{random.getrandbits(64):016X}" if random.random() < 0.3 else message_uuid(random)


def _number(random: Random, numbers: tuple[str, int, str]) -> tuple[str, str]:
    prefix, digits, network = numbers
    return f"{prefix}{random.randrange(10**digits):0{digits}d}", network


def _text(random: Random) -> str:
    text = f"Your code is {random.randrange(1_000_000):06d}"
    return text + ". Do not tell it to anyone." * 6 if random.random() < LONG_SHARE else text
