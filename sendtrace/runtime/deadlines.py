"""``SENDTRACE_DEADLINES``: how long to wait for what, per API and channel, in one line.

    no_first_event=10m, */whatsapp:no_first_event=1h, sms/*:confirmation=48h, */rcs:no_send=never

An entry is ``[<api>/<channel>:]<what>=<duration or never>``; ``*`` is any, and no scope is
``*/*``. For each message and each thing the most exact entry counts: api and channel, the channel,
the api, any. A receipt whose send was not told is of api ``sms_or_alerts``. What each thing is
stands in ``processors/join/policy.py``.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Literal, get_args

from sendtrace.runtime.durations import seconds_of

Kind = Literal["no_first_event", "no_send", "confirmation", "margin"]
# Which messages an entry is for: (api, channel), None for any.
Scope = tuple[str | None, str | None]
Waits = dict[Kind, float | None]  # in seconds; None: for ever

APIS = ("messages", "sms", "alerts", "sms_or_alerts")
CHANNELS = ("sms", "mms", "rcs", "whatsapp", "messenger", "viber_service", "email")
# Vonage tells nothing after 72 h. Confirmation and margin together end before a message is
# forgotten, a week after its last fact.
LIMIT_SECONDS = 72 * 3600
NEVER = "never"


def parse_deadlines(text: str) -> dict[Scope, Waits]:
    """What each scope says for itself. Raises ValueError with a sentence."""
    found: dict[Scope, Waits] = {}
    for entry in filter(None, map(str.strip, text.split(","))):
        try:
            scope, kind, seconds = _entry(entry)
        except ValueError as error:
            raise ValueError(f"in {entry!r}: {error}") from None
        waits = found.setdefault(scope, {})
        if kind in waits:
            raise ValueError(f"in {entry!r}: this is said twice")
        waits[kind] = seconds
    return found


def _entry(entry: str) -> tuple[Scope, Kind, float | None]:
    before, is_scoped, rest = entry.rpartition(":")
    name, is_set, value = (part.strip() for part in rest.partition("="))
    if not is_set:
        raise ValueError("write [<api>/<channel>:]<what>=<duration>, as sms/*:confirmation=48h")
    kind: Kind = _one_of(get_args(Kind), name, "a thing to wait for")  # type: ignore[assignment]
    return _scope(before) if is_scoped else (None, None), kind, _wait(kind, value)


def _scope(text: str) -> Scope:
    api, has_both, channel = (part.strip() for part in text.partition("/"))
    if not has_both:
        # `sms` is an API and a channel.
        raise ValueError(f"{text.strip()!r} is no scope: write <api>/<channel>, * for any")
    return (
        None if api == "*" else _one_of(APIS, api, "an api"),
        None if channel == "*" else _one_of(CHANNELS, channel, "a channel"),
    )


def _wait(kind: Kind, text: str) -> float | None:
    if text == NEVER:
        if kind == "margin":
            raise ValueError("a margin is a duration; `confirmation=never` waits for ever")
        return None
    seconds = seconds_of(text)
    if seconds > LIMIT_SECONDS:
        raise ValueError("at most 72h: Vonage tells nothing later")
    return seconds


def _one_of(known: Collection[str], word: str, what: str) -> str:
    if word in known:
        return word
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else f" ({', '.join(known)})"
    raise ValueError(f"{word!r} is not {what}{hint}")
