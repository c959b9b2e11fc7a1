"""Scenarios: what traffic looks like and what goes wrong when, as small TOML files.

A file says only what differs from the defaults here, which are an ordinary day. All durations are
life's: they are divided by ``compression`` (the scenario's own) and by SENDTRACE_TIME_SCALE, but
for those of phases, which the time scale alone divides.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from sendtrace.runtime.settings import SettingsError
from sendtrace.simulator.endings import HOUR, LATE_AFTER_SECONDS, SHORT_TTL_SECONDS, Ending
from sendtrace.simulator.parties import NETWORKS

DEFAULT = "quiet-day"
FILES = "scenarios"

# What TOML can write and nobody can play (`inf`, `nan`, 1e-300) is refused with these bounds.
YEAR = 366 * 24 * HOUR
Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[int, Meta(ge=0, le=1_000_000)]
Compression = Annotated[float, Meta(ge=1, le=10_000)]
Factor = Annotated[float, Meta(ge=0.001, le=1_000)]
Moment = Annotated[float, Meta(ge=0, le=YEAR)]
Duration = Annotated[float, Meta(ge=1, le=YEAR)]
Endings = dict[Ending, Weight]

# In parts of a thousand: mostly well, as in life.
SMS: Endings = {
    "delivered": 880, "failed": 35, "rejected": 15, "expired": 15, "unknown": 5,
    "intermediate": 15, "retrying": 5, "silent": 10, "untracked": 20,
}  # fmt: skip
# Short codes have intermediate receipts rather than a handset's, and none unless asked for.
ALERTS: Endings = {
    "delivered": 500, "intermediate": 300, "failed": 40, "silent": 10, "untracked": 150,
}  # fmt: skip
TEXT: Endings = {
    "delivered": 890, "rejected": 45, "undeliverable": 15, "contradicted": 10, "intermediate": 30,
    "silent": 10,
}  # fmt: skip
CHAT: Endings = {
    "delivered": 350, "read": 570, "rejected": 40, "undeliverable": 10, "intermediate": 30,
}  # fmt: skip
# Of the Messages API, in parts of a hundred.
CHANNELS: dict[str, Weight] = {
    "sms": 56, "mms": 4, "rcs": 8, "whatsapp": 20, "messenger": 6, "viber_service": 6,
}  # fmt: skip
TEXT_CHANNELS = frozenset({"sms", "mms"})


class Shares(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The SMS API, the Alerts API and inbound messages are shares of all; what is left is the
    Messages API's. The others are shares of what they can happen to."""

    sms: Share = 0.4
    alerts: Share = 0.08
    inbound: Share = 0.05
    long: Share = 0.08  # texts of several SMS
    old: Share = 0.2  # v0.1, of the Messages API's
    failover: Share = 0.05  # of v1 sends by a chat channel
    refused: Share = 0.02  # throttled ones among them
    refused_part: Share = 0.1  # of the parts after the first
    unanswered: Share = 0.003  # the send timed out
    stray: Share = 0.01  # webhooks of a message whose send nobody told us
    foreign: Share = 0.0  # something of another account about a message; needs verified accounts
    repeat: Share = 0.03
    overtaken: Share = 0.02  # a later webhook arrives before it
    lost: Share = 0.01  # of `submitted`: it never comes, what follows does
    late_record: Share = 0.05  # a webhook beats the send's own record (docs/vonage.md 7)
    xml: Share = 0.2  # of the answers of the SMS and the Alerts API


class Phase(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something out of the ordinary, from second to second of the scenario."""

    from_seconds: Moment
    to_seconds: Moment
    rate: Factor = 1.0  # so many times the ordinary one
    network: str | None = None  # where ``endings`` and ``latency`` hold; None: everywhere
    latency: Factor = 1.0  # so many times the ordinary one
    endings: Endings = {}  # of SMS, by any API
    to_network: str | None = None  # where ``to_share`` of the traffic goes all of a sudden
    to_share: Share = 0.0
    is_reachable: bool = True  # False: Vonage does not get through to the edge


CALM = Phase(from_seconds=0, to_seconds=1)


class Scenario(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How traffic looks. ``compression`` divides latencies, silences and retry plans."""

    about: str = ""
    compression: Compression = 1.0
    # Nothing comes later than this after the send: 72 h is Vonage's own bound.
    longest_seconds: Duration = 72 * 3600.0
    period_seconds: Duration | None = None  # after this the phases begin anew; None: never
    shares: Shares = Shares()
    channels: dict[str, Weight] = field(default_factory=CHANNELS.copy)
    sms: Endings = field(default_factory=SMS.copy)
    alerts: Endings = field(default_factory=ALERTS.copy)
    text: Endings = field(default_factory=TEXT.copy)
    chat: Endings = field(default_factory=CHAT.copy)
    phases: tuple[Phase, ...] = ()

    def at(self, seconds: float) -> Phase:
        """What holds so long after the start: of several phases the first."""
        if self.period_seconds is not None:
            seconds %= self.period_seconds
        for phase in self.phases:
            if phase.from_seconds <= seconds < phase.to_seconds:
                return phase
        return CALM

    def of_channel(self, channel: str) -> Endings:
        """How messages of the Messages API end."""
        return self.text if channel in TEXT_CHANNELS else self.chat


def names() -> list[str]:
    """Of the scenarios that come with sendtrace."""
    folder = resources.files(__package__) / FILES
    return sorted(
        p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")
    )


def load(name_or_path: str) -> Scenario:
    """One of ours by name, or a file. Raises SettingsError with a sentence."""
    known = names()
    try:
        if name_or_path in known:
            file = resources.files(__package__) / FILES / f"{name_or_path}.toml"
            return parse(file.read_text())
        return parse(Path(name_or_path).read_text())
    except OSError as error:
        raise SettingsError(
            f"--scenario {name_or_path}: neither a file that can be read ({type(error).__name__}) "
            f"nor one of {', '.join(known)}"
        ) from None
    except (ValueError, msgspec.ValidationError) as error:
        raise SettingsError(f"--scenario {name_or_path}: {error}") from None


def chosen(name_or_path: str) -> str:
    """The same, good for a child in another working folder. Raises SettingsError as ``load``."""
    load(name_or_path)
    return name_or_path if name_or_path in names() else str(Path(name_or_path).absolute())


def parse(text: str) -> Scenario:
    """Raises ValueError or msgspec.ValidationError."""
    found = msgspec.convert(tomllib.loads(text), Scenario)
    for weights in (found.sms, found.alerts, found.text, found.chat, found.channels):
        _require(sum(weights.values()) > 0, "the weights of a table are all 0")
    _require(found.channels.keys() <= CHANNELS.keys(), f"channels are {', '.join(CHANNELS)}")
    shares = found.shares
    _require(shares.sms + shares.alerts + shares.inbound <= 1, "sms + alerts + inbound is above 1")
    _require(
        (
            2 * found.compression * (SHORT_TTL_SECONDS + HOUR) < LATE_AFTER_SECONDS
            and found.longest_seconds >= LATE_AFTER_SECONDS
        )
        or not any(weights.get("late") for weights in (found.sms, found.text, found.chat)),
        "late endings need time: no compression, and longest_seconds above a day",
    )
    for phase in found.phases:
        _require(phase.to_seconds > phase.from_seconds, "a phase ends before it begins")
        for code in (phase.network, phase.to_network):
            _require(code is None or code in NETWORKS, f"networks are {', '.join(NETWORKS)}")
        _require(not phase.endings or sum(phase.endings.values()) > 0, "endings are all 0")
    return found


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
