"""What a company decides about its messages: accounts, callbacks, deadlines, test traffic. Data.

Durations are in seconds and divided by ``time_scale``, so that days pass in seconds in tests.
Timestamps never are. Every default stands with its reason.

Source: docs/rules.md 1, 3, 5 and 7.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from schemas.numbers import SECOND_US

HOUR_SECONDS = 3600

# Which messages a row of deadlines is for: (api, channel), None for any.
Scope = tuple[str | None, str | None]


class Deadlines(Struct, frozen=True):
    """How long to wait. None: for ever."""

    # Vonage reports within seconds; ten minutes leave room for a slow carrier and some retries.
    no_first_event_seconds: float | None = 600
    # A send record may come after its webhook, not minutes after it.
    no_send_seconds: float | None = 300
    # With no final receipt in 72 h Vonage makes one up, so nothing comes later than this ...
    confirmation_seconds: float | None = 72 * HOUR_SECONDS
    # ... but for its way to us.
    margin_seconds: float = HOUR_SECONDS


class Policy(Struct, frozen=True, kw_only=True):
    """Frozen, and the same for every joiner: what follows from a set depends on it. It is made in
    processors/policies.py."""

    default_currency: str = "EUR"  # receipts carry none; accounts are billed in EUR by default
    currencies: Mapping[str, str] = msgspec.field(default_factory=dict)  # by account
    # Accounts above an account, whose webhooks about its messages count too.
    parents: Mapping[str, frozenset[str]] = msgspec.field(default_factory=dict)
    callback_hosts: frozenset[str] = frozenset()  # ours: a `callback` elsewhere never reaches us
    deadlines: Deadlines = Deadlines()
    deadlines_of: Mapping[Scope, Deadlines] = msgspec.field(default_factory=dict)
    # Vonage's longest step between two attempts: 15 minutes (docs/vonage.md 7).
    retry_step_seconds: float = 900
    # Past a deadline and its grace the engine fires it.
    grace_seconds: float = 60
    # Forgotten a week after the last that was heard of it: Vonage reports for 72 hours, and tries
    # again for three days at most. Never before 96 hours after its send.
    forget_seconds: float = 7 * 24 * HOUR_SECONDS
    forget_after_send_seconds: float = 96 * HOUR_SECONDS
    # The rollup outlives its messages, or a late part would start a new one.
    forget_rollup_seconds: float = 14 * 24 * HOUR_SECONDS
    # For so long a remnant is kept; the tombstone is, too (delete.retention.ms).
    remnant_seconds: float = 7 * 24 * HOUR_SECONDS
    test_accounts: frozenset[str] = frozenset()
    test_client_ref_prefixes: tuple[str, ...] = ()
    sandbox_hosts: frozenset[str] = frozenset({"messages-sandbox.nexmo.com"})
    time_scale: float = 1

    def deadlines_for(self, api: str | None, channel: str | None) -> Deadlines:
        """The most exact row: api and channel, the channel, the api, all."""
        rows = self.deadlines_of
        if not rows:
            return self.deadlines
        for scope in ((api, channel), (None, channel), (api, None)):
            row = rows.get(scope)
            if row is not None:
                return row
        return self.deadlines

    def scaled_us(self, seconds: float) -> int:
        return int(seconds * SECOND_US / self.time_scale)

    def final_us(self, api: str | None, channel: str | None, ttl_ms: int | None) -> int | None:
        """How long after its start a message must be final: min(ttl, 72 h) + 1 h."""
        row = self.deadlines_for(api, channel)
        wait = row.confirmation_seconds
        if wait is None:
            return None
        if ttl_ms and ttl_ms < wait * 1000:
            wait = ttl_ms / 1000
        return int((wait + row.margin_seconds) * SECOND_US / self.time_scale)

    def is_foreign(self, account: str, of_send: str) -> bool:
        """Whether a verified account has no business with a send of ``of_send``."""
        return account != of_send and account not in self.parents.get(of_send, ())
