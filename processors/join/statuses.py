"""The words a webhook may say about a message, and what each word is.

1. Only the status decides, never the code: ``delivered`` with code 1300 is delivered.
2. A word that is not here is `unknown`: it stays open until the deadline.
3. ``revoked`` is documented nowhere [U]: it counts only where a revocation was requested, so the
   word alone is `unknown` (see outcome.py).
4. ``kept`` is the class rank under the bound of 64 facts: what decides is cut last.

Source: docs/rules.md 1 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from schemas.lifecycle import Outcome

# Highest first. Equal rank is told apart by time, then by bytes (outcome.py).
PRECEDENCE: Mapping[Outcome, int] = {
    "read": 0,
    "delivered": 1,
    "rejected": 2,
    "failed": 2,
    "undeliverable": 2,
    "expired": 3,
    "revoked": 4,
    "refused": 5,
    "unanswered": 6,
    "unknown": 7,
    "unconfirmed": 8,
    "missing": 9,
    "pending": 10,
    "untracked": 11,
}
FINAL: frozenset[Outcome] = frozenset(
    {"read", "delivered", "rejected", "failed", "undeliverable", "expired", "revoked", "refused"}
)


class Word(Struct, frozen=True):
    """One status. ``rank`` is that of its outcome."""

    outcome: Outcome
    rank: int
    kept: int
    is_final: bool = False
    is_start: bool = False  # the message was handed over: latency starts here
    is_success: bool = False
    is_failure: bool = False


def _word(outcome: Outcome, kept: int, **more: bool) -> Word:
    return Word(outcome, PRECEDENCE[outcome], kept, **more)


WORDS: Mapping[str, Word] = {
    "read": _word("read", 0, is_final=True, is_success=True),
    "delivered": _word("delivered", 0, is_final=True, is_success=True),
    "rejected": _word("rejected", 1, is_final=True, is_failure=True),
    "failed": _word("failed", 1, is_final=True, is_failure=True),
    "undeliverable": _word("undeliverable", 1, is_final=True, is_failure=True),
    "expired": _word("expired", 1, is_final=True, is_failure=True),
    "accepted": _word("pending", 2, is_start=True),
    "buffered": _word("pending", 2, is_start=True),
    "submitted": _word("pending", 2, is_start=True),
}
UNKNOWN_WORD = _word("unknown", 2)

# A retry by the carrier is under way (status, code): the final word is to come.
RETRYING = frozenset({("accepted", "7"), ("submitted", "1220")})


def word_of(status: str) -> Word:
    return WORDS.get(status, UNKNOWN_WORD)
