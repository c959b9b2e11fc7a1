"""Who writes to whom: accounts, senders, networks, recipients, prices. Seeded, and nobody is real.

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
# The answer's price is an estimate: now and then another is charged.
OTHER_PRICE_SHARE = 0.1


@dataclass(frozen=True)
class Network:
    """A mobile network, and ``count`` numbers from ``first`` on that nobody has."""

    code: str
    country: str | None
    first: int
    count: int
    price: str
    weight: int  # in parts of a hundred
    latency_seconds: float  # the median from hand-over to handset
    spread: float = 0.6  # of the logarithm; 1.0 has one in a hundred at ten times the median


# Ranges for drama: Ofcom's, NANPA's 555-01xx, ARCEP's, Bundesnetzagentur's, PTS's, ACMA's.
NETWORKS = {
    network.code: network
    for network in (
        Network("23410", "GB", 442079460000, 1000, "0.03330000", 20, 2.5),
        Network("23415", "GB", 442079460000, 1000, "0.03330000", 14, 3.0),
        # The documents' own example: +44 has four countries, and no directory says which it is.
        Network("23430", None, 447700900000, 1000, "0.03330000", 4, 3.0),
        Network("310260", "US", 12025550100, 100, "0.00640000", 18, 4.0, 0.9),
        Network("311480", "US", 12125550100, 100, "0.00720000", 12, 5.0, 0.9),
        Network("302720", "CA", 14165550100, 100, "0.00750000", 6, 4.0),
        Network("20801", "FR", 33639980000, 10_000, "0.06500000", 10, 3.5),
        Network("26201", "DE", 491713920000, 100, "0.07600000", 8, 2.0),
        Network("24001", "SE", 46701740605, 95, "0.04150000", 4, 1.5, 0.4),
        Network("50501", "AU", 61491570156, 4, "0.05100000", 4, 6.0, 1.0),
    )
}
AMERICAN = ("310260", "311480")
_WEIGHTS = [network.weight for network in NETWORKS.values()]
# Of a number of Messenger's nobody knows a network or a country.
_WITHOUT_COUNTRY = frozenset({"messenger"})


@dataclass(frozen=True)
class Leg:
    """From whom to whom, by what network, and what it costs."""

    account: str
    sender: str
    recipient: str
    channel: str
    network: Network
    estimate: str  # what the answer to the send says
    price: str  # what is charged in the end
    client_ref: str
    text: str

    @property
    def segments(self) -> int:
        """How many SMS the text takes, in the alphabet of GSM."""
        return 1 if len(self.text) <= 160 else -(-len(self.text) // 153)

    @property
    def country(self) -> str | None:
        return None if self.channel in _WITHOUT_COUNTRY else self.network.country


def draw_network(random: Random) -> Network:
    return random.choices(list(NETWORKS.values()), _WEIGHTS)[0]


def leg(random: Random, at_us: int, channel: str, network: Network, long_share: float = 0.0) -> Leg:
    """Of the SMS API or the Messages API."""
    sender = random.choice(SENDERS)
    number = _number(random, network)
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
        estimate=network.price,
        price=_price(random, channel, network),
        client_ref=f"campaign-{at_us // 3_600_000_000 % 24}",
        text=_text(random, long_share),
    )


def alert_leg(random: Random, at_us: int) -> Leg:
    """Of the Alerts API: from a short code to a number in the United States."""
    network = NETWORKS[random.choice(AMERICAN)]
    return Leg(
        account=ALERTS_ACCOUNT,
        sender=SHORT_CODE,
        recipient=_number(random, network),
        channel="sms",
        network=network,
        estimate=network.price,
        price=network.price,
        client_ref=f"alert-{at_us // 3_600_000_000 % 24}",
        text="",
    )


def other_account(account: str) -> str:
    return ACCOUNTS[1 - ACCOUNTS.index(account)]


def message_uuid(random: Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def sms_id(random: Random) -> str:
    """A UUID, or the 16 digits of old that the documents still show."""
    return f"{random.getrandbits(64):016X}" if random.random() < 0.3 else message_uuid(random)


def _number(random: Random, network: Network) -> str:
    return str(network.first + random.randrange(network.count))


def _price(random: Random, channel: str, network: Network) -> str:
    # Per-message pricing of WhatsApp: its own price list, and here 0 (docs/vonage.md 3).
    if channel == "whatsapp" and random.random() < 0.5:
        return "0.00000000"
    return "0.08120000" if random.random() < OTHER_PRICE_SHARE else network.price


def _text(random: Random, long_share: float) -> str:
    text = f"Your code is {random.randrange(1_000_000):06d}"
    if random.random() >= long_share:
        return text
    return text + ". Do not tell it to anyone." * random.choice((6, 12, 18))
