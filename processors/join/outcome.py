"""What became of a message: the outcome that its facts tell, the highest of the precedence first.

1. The leading fact is the first by precedence of its status; among equals known time before
   unknown, the later time, then (status, code, segment, account, kind) by bytes.
2. read, delivered, the failures and expired follow from the leading fact alone. So ``read`` implies
   delivered, and ``delivered`` beats a failure.
3. A v0.1 send with a ttl of which nothing was ever heard ends ``expired``: code 1360 says "no
   callbacks and no charge" there [C].
4. ``revoked``: revocation was requested, nothing of rule 2 is known, and the deadline went by or a
   status says ``revoked`` [U].
5. ``refused`` is Vonage's no. ``unanswered``, ``untracked`` hold only while no fact is there.
6. ``unknown`` is a status never seen before. Past the final deadline, intermediate facts alone are
   ``unconfirmed`` (the carrier's silence) and no fact at all is ``missing`` (a webhook setting).
   So WhatsApp, Viber and Messenger never end ``missing`` once submitted.
7. Else ``pending``.

Source: docs/rules.md 3.
"""

from __future__ import annotations

from processors.join.policy import Policy
from processors.join.statuses import PRECEDENCE, word_of
from schemas.events import Fact, Send
from schemas.lifecycle import Lifecycle, Outcome, OverdueKind

_TOLD_BY_STATUS = PRECEDENCE["expired"]  # up to here the leading fact decides
_UNKNOWN_TIME = 1 << 62
_NO_ANSWER = frozenset({"unanswered", "unreadable"})


def is_ahead(fact: Fact, rank: int, other: Fact, other_rank: int) -> bool:
    """Whether ``fact`` comes before ``other``; ranks are those of their statuses (rule 1)."""
    if rank != other_rank:
        return rank < other_rank
    return _tie(fact) < _tie(other)


def _tie(fact: Fact) -> tuple[int, str, str, str, str, str]:
    at_us = fact.provider_at_us
    later_first = _UNKNOWN_TIME if at_us is None else -at_us
    return later_first, fact.status, fact.code, fact.segment, fact.account, fact.kind


def outcome_of(
    lifecycle: Lifecycle, own: tuple[Fact, ...], leading: Fact | None, policy: Policy
) -> Outcome:
    """``own`` are the facts that are not foreign, ``leading`` the first of them (rules 2 to 7, in
    this order)."""
    told: Outcome = "pending" if leading is None else word_of(leading.status).outcome
    if PRECEDENCE[told] <= _TOLD_BY_STATUS:
        return told
    send = lifecycle.send
    silent = leading is None
    overdue = is_overdue(lifecycle, "final")
    if overdue and silent and send is not None and is_silent_by_ttl(send):
        return "expired"
    if lifecycle.revoke_requested_at_us is not None and (overdue or _says_revoked(own)):
        return "revoked"
    if send is not None and send.refused:
        return "refused"
    if silent and send is not None:
        if is_unanswered(send):
            return "unanswered"
        if not receipt_expected(send, policy):
            return "untracked"
    if told == "unknown":
        return "unknown"
    if overdue:
        return "missing" if silent else "unconfirmed"
    return "pending"


def is_overdue(lifecycle: Lifecycle, kind: OverdueKind) -> bool:
    if not lifecycle.overdue:  # nearly always: a generator costs more
        return False
    return any(overdue.kind == kind for overdue in lifecycle.overdue)


def is_unanswered(send: Send) -> bool:
    """No id came back, and no refusal: it may be on its way, and no webhook can be tied to it."""
    if send.refused or not (
        send.answer in _NO_ANSWER or (send.answer is None and send.answer_status is None)
    ):
        return False
    return send.message_id == f"{send.send_id}.{send.part}"


def is_silent_by_ttl(send: Send) -> bool:
    """v0.1 sends no callbacks about a message whose ttl ran out, and charges nothing [C]."""
    return send.version == "v0.1" and bool(send.ttl_ms)


def receipt_expected(send: Send, policy: Policy) -> bool:
    """Whether a receipt was asked for and comes to us."""
    if not send.receipt_expected:
        return False
    return send.callback_host is None or send.callback_host in policy.callback_hosts


def is_open_after(outcome: Outcome, lifecycle: Lifecycle) -> bool:
    """Whether it may still change in time; what comes after a deadline is `late`."""
    if outcome == "pending":
        return True
    return outcome == "unknown" and not is_overdue(lifecycle, "final")


def _says_revoked(facts: tuple[Fact, ...]) -> bool:
    return any(fact.status == "revoked" for fact in facts)
