"""What is known of a message, in words. Pure.

Why the outcome is what it is follows ``processors/join/outcome.py``; a test holds every outcome and
every flag to have its words. Numbers are hidden unless they are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from msgspec import Struct

from processors.join.statuses import word_of
from schemas.lifecycle import Outcome, OverdueKind
from schemas.numbers import MONEY_UNITS, iso_us
from schemas.vonage.errors import Error, Family, lookup
from sendtrace.explain.found import Columns, Found

HIDDEN = "(hidden: --show-numbers)"
# Standing alone: no piece of an id, a price or a time.
_number = re.compile(r"(?<![\w.-])\+?\d{7,15}(?![\w-])")

FLAGS: Mapping[str, str] = {
    "aggregated": "a long SMS without its segments' times: its latency may be 5 minutes too long",
    "clock_skew": "two clocks disagree: a latency came out negative, and is shown as 0",
    "contradiction": "Vonage told a success and a failure as well; the success counts",
    "foreign_account": "another account told something about it, which does not count",
    "fragment": "what was known of it before was forgotten; this is only what came since",
    "late": "what decided came after the final deadline",
    "mended_time": "a time had backslashes in it, and was read without them",
    "no_first_event": "nothing was heard of it in time after the send",
    "no_send": "there is no record of its send",
    "overdue": "the final deadline went by, and nothing final had come",
    "retrying": "the carrier is said to try again",
    "truncated": "more was told about it than is kept",
    "unanswered": "its send got no answer",
    "unknown_code": "its error code is in no catalogue",
}

_DEADLINES: Mapping[OverdueKind, str] = {
    "no_first_event": "deadline: no status or receipt had come since the send",
    "no_send": "deadline: no record of its send had come",
    "final": "final deadline: nothing final had come",
}

_CLOCKS = {"vonage": "Vonage's clock", "ours": "our clock", "client": "the client's clock"}

# Label, column, and by whose clocks; {send} is the clock of the send.
_LATENCIES = (
    ("handed over to delivered", "carrier_latency_ms", "both by Vonage's clock"),
    ("answer to delivered", "deliver_latency_ms", "{send}, then Vonage's"),
    ("request to answer", "accept_latency_ms", "{send}"),
    ("delivered to read", "read_latency_ms", "both by Vonage's clock"),
    ("first event to its arrival here", "ingest_lag_ms", "Vonage's clock, then ours"),
)


class Line(Struct, frozen=True, kw_only=True):
    """One thing that happened. ``at`` is when it reached us (of a send when it was asked for)."""

    at: str | None
    what: str
    provider_at: str | None = None  # by Vonage's clock
    decided: bool = False  # the outcome follows from it


class Told(Struct, frozen=True, kw_only=True):
    """The whole explanation."""

    message_id: str
    source: str
    headline: str
    why: str = ""
    about: dict[str, str] = {}
    timeline: tuple[Line, ...] = ()
    next: str = ""
    cost: str = ""
    latencies: dict[str, str] = {}
    flags: dict[str, str] = {}
    candidates: tuple[str, ...] = ()  # guesses, and marked as such


def tell(found: Found, *, show_numbers: bool = False) -> Told:
    """Put it into words."""
    row = found.row
    if row is None:
        return _without_row(found, show_numbers)
    hide = _shown if show_numbers else _hidden
    decided = _deciding(found)
    outcome: Outcome = row["outcome"]
    send_clock = _CLOCKS.get(row["send_clock"] or "", "the send's clock")
    return Told(
        message_id=found.message_id,
        source=found.source,
        headline=_headline(row),
        why=_why(outcome, row, decided),
        about={name: hide(text) for name, text in _about(row, show_numbers).items()},
        timeline=tuple(
            Line(
                at=line.at, what=hide(line.what), provider_at=line.provider_at, decided=line.decided
            )
            for line in _timeline(found, decided)
        ),
        next="" if found.due_at_us is None else f"the next deadline is {_time(found.due_at_us)}",
        cost=_cost(row),
        latencies={
            label: f"{_seconds(row[column])} ({clocks.format(send=send_clock)})"
            for label, column, clocks in _LATENCIES
            if row[column] is not None
        },
        flags={flag: FLAGS.get(flag, "") for flag in row["flags"]},
        candidates=tuple(_candidate(each) for each in found.candidates),
    )


def _without_row(found: Found, show_numbers: bool) -> Told:
    message_id, source = found.message_id, found.source
    if found.inbound:
        first = found.inbound[0]
        about = {"sender": str(first["sender"]) if show_numbers else HIDDEN}
        about |= _texts(first, ("channel", "account", "message_type", "keyword_class", "traffic"))
        came = f"It came in at {_time(first['arrived_at'])}, in {len(found.inbound)} part(s)."
        return Told(message_id=message_id, source=source, headline=came, about=about)
    if found.of_send:
        headline = f"This is the id of a send of {len(found.of_send)} message(s); ask for one:"
        return Told(
            message_id=message_id,
            source=source,
            headline=headline,
            about={str(number): each for number, each in enumerate(found.of_send, start=1)},
        )
    if found.is_forgotten or found.erased_at_us is None:
        return Told(message_id=message_id, source=source, headline="It was forgotten.")
    headline = f"It was erased at {_time(found.erased_at_us)}: its person was to be forgotten."
    return Told(message_id=message_id, source=source, headline=headline)


def _headline(row: Columns) -> str:
    state = "final" if row["is_final"] else "open" if row["is_open"] else "closed by silence"
    if row["outcome_at"] is None:
        return f"{row['outcome']} ({state})"
    clock = _CLOCKS.get(row["outcome_clock"] or "", "clock not known")
    return f"{row['outcome']} ({state}) since {_time(row['outcome_at'])}, {clock}"


# -- why -----------------------------------------------------------------------------------------


def _deciding(found: Found) -> Columns | None:
    """The fact that the outcome follows from: of those that say it, one of the message's own
    account, then the latest by Vonage's clock."""
    assert found.row is not None
    outcome, account = found.row["outcome"], found.row["account"]
    saying = [
        event
        for event in found.events
        if event["kind"] in ("status", "receipt") and word_of(event["status"]).outcome == outcome
    ]
    if outcome in ("pending", "unconfirmed") or not saying:
        return None

    def rank(event: Columns) -> tuple[bool, int]:
        return event["account"] in ("", account), event["provider_at"] or -1

    return max(saying, key=rank)


def _by_status(text: str) -> Callable[[Columns, Columns | None], str]:
    def why(row: Columns, decided: Columns | None) -> str:
        if decided is None:
            return text
        said = f"A {decided['kind']} says {decided['status']}"
        code = f", code {decided['code']}" if decided["code"] else ""
        return f"{said}{code}. {text}"

    return why


def _expired(row: Columns, decided: Columns | None) -> str:
    if decided is None:
        return (
            "A send by v0.1 with a time to live, and nothing was heard: its time ran out, which "
            "v0.1 neither tells nor charges (code 1360)."
        )
    return _by_status("Its time ran out and the carrier said nothing: no failure of content or "
                      "number.")(row, decided)  # fmt: skip


def _refused(row: Columns, _: Columns | None) -> str:
    again = ": too much at once; it may be sent again" if row["answer"] == "throttled" else ""
    return f"Vonage said no to the send (status {row['answer_status'] or 'not told'}){again}."


_FAILURE = "Only the status decides, never the code; a success would count above it."
_WHY: Mapping[Outcome, Callable[[Columns, Columns | None], str]] = {
    "read": _by_status("That counts above all else."),
    "delivered": _by_status("That counts above any failure."),
    "rejected": _by_status(_FAILURE),
    "failed": _by_status(_FAILURE),
    "undeliverable": _by_status(_FAILURE),
    "expired": _expired,
    "revoked": _by_status(
        "Vonage was asked to take it back, and nothing was delivered by the deadline."
    ),
    "refused": _refused,
    "unanswered": lambda row, _: (
        "No usable answer came to the send: it may be on its way. A status or receipt would tell."
    ),
    "unknown": _by_status("That status was never seen before: nobody knows what it means."),
    "unconfirmed": lambda row, _: (
        "The final deadline went by, and only intermediate statuses had come: the carrier's "
        "silence."
    ),
    "missing": lambda row, _: (
        "The final deadline went by, and no status or receipt had come: our webhook setting is "
        "wrong, or callbacks are lost."
    ),
    "pending": lambda row, _: "Nothing final has come, and its final deadline is not there yet.",
    "untracked": lambda row, _: (
        "No receipt was asked for, or it goes to a host that is not ours: nobody will tell."
    ),
}


def _why(outcome: Outcome, row: Columns, decided: Columns | None) -> str:
    return _WHY[outcome](row, decided)


# -- what happened -------------------------------------------------------------------------------


def _timeline(found: Found, decided: Columns | None) -> list[Line]:
    """In the order in which it reached us; the send is first among equals."""
    row = found.row
    assert row is not None
    dated: list[tuple[int, Line]] = []
    if row["answer"] is not None or row["sent_at"] is not None:
        dated.append((row["sent_at"] or 0, _send(row)))
    for event in sorted(found.events, key=lambda each: each["provider_at"] or 0):
        line = Line(
            at=_time(event["arrived_at"]),
            what=_event(event),
            provider_at=None if event["provider_at"] is None else _time(event["provider_at"]),
            decided=event is decided,
        )
        dated.append((event["arrived_at"], line))
    return [line for _, line in sorted(dated, key=lambda each: each[0])]


def _send(row: Columns) -> Line:
    words = ["send"]
    if row["parts"] is not None and row["parts"] > 1:
        words.append(f"part {row['part']} of {row['parts']}")
    answer = row["answer"] or "answer not told"
    status = f" (status {row['answer_status']})" if row["answer_status"] else ""
    words.append(f"{answer}{status}")
    if row["outcome"] == "refused" and row["code"]:
        family: Family = "problem" if row["api"] == "messages" else "sms_send"
        words.append(_meaning(lookup(family, row["code"])))
    if row["estimate"] is not None:
        words.append(f"price by the answer {_money(row['estimate'])}")
    at_us = row["sent_at"]
    return Line(
        at=None if at_us is None else _time(at_us),
        what=", ".join(words),
        decided=row["outcome"] in ("refused", "unanswered", "untracked"),
    )


def _event(event: Columns) -> str:
    if event["kind"] == "overdue":
        return _DEADLINES[event["status"]]
    if event["kind"] == "revoke_requested":
        return "Vonage was asked to take it back"
    words = [f"{event['kind']} {event['status']}"]
    if event["code"]:
        family: Family = "messages" if event["kind"] == "status" else "dlr"
        words.append(_meaning(lookup(family, event["code"], event["version"] or "v1")))
    if event["segment"]:
        words.append(f"segment {event['segment']}")
    if event["network"]:
        words.append(f"network {event['network']}")
    if event["price"] is not None:
        words.append(f"price {_money(event['price'])} {event['currency'] or ''}".rstrip())
    words.append(f"verified for {event['account']}" if event["account"] else "not verified")
    if event["after_refusal"]:
        words.append("came while our edge refused, or soon after")
    if event["error_instance"]:
        words.append(f"Vonage's trace {event['error_instance']}")
    return ", ".join(words)


def _meaning(error: Error) -> str:
    return f"code {error.code}: {error.name} ({error.category}, {error.lasting}; {error.text})"


def _candidate(each: Columns) -> str:
    return (
        f"A GUESS: it may be {each['candidate_id']}, first heard of at "
        f"{_time(each['first_event_at'])}, {each['candidate_outcome']}: the only one with this "
        "account, recipient and reference within 10 minutes. Nothing proves it."
    )


# -- what it was ---------------------------------------------------------------------------------

_ABOUT = (
    "send_id", "workflow_id", "api", "channel", "account", "application", "traffic", "country",
    "client_ref", "network_final", "network_estimated", "segments", "template",
)  # fmt: skip


def _about(row: Columns, show_numbers: bool) -> dict[str, str]:
    parties = {
        name: str(row[name]) if show_numbers else HIDDEN
        for name in ("sender", "recipient")
        if row[name] is not None
    }
    return _texts(row, _ABOUT) | parties


def _texts(row: Columns, names: tuple[str, ...]) -> dict[str, str]:
    return {name: str(row[name]) for name in names if row[name] is not None}


def _cost(row: Columns) -> str:
    if row["cost"] is None:
        return "not known"
    source = "told by an event" if row["cost_source"] == "event" else "as the answer estimated"
    told = "" if row["currency_source"] == "field" else ", currency by default"
    return f"{_money(row['cost'])} {row['currency']} ({source}{told})"


def _hidden(text: str) -> str:
    return _number.sub(HIDDEN, text)


def _shown(text: str) -> str:
    return text


def _time(at_us: int) -> str:
    return iso_us(at_us)[:-4].replace("T", " ") + " UTC"


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.3f} s" if ms < 60_000 else f"{ms / 60_000:,.1f} min"


def _money(units: int) -> str:
    sign, units = ("-", -units) if units < 0 else ("", units)
    whole, rest = divmod(units, MONEY_UNITS)
    return f"{sign}{whole}.{f'{rest:08}'.rstrip('0').ljust(2, '0')}"
