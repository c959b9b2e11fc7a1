"""SENDTRACE_DEADLINES: how it is written, and the sentence where it is wrong."""

from __future__ import annotations

from typing import get_args

import pytest

from schemas.events import Api
from sendtrace.runtime.deadlines import APIS, parse_deadlines
from sendtrace.runtime.durations import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("90", 90), ("1.5m", 90), ("2h", 7200)],
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "h", "1d", "-1h", "1e3s", "1 h", "0s", "9" * 400, "1hh", "\u0661s"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no duration|longer than nothing"):
        seconds_of(text)


def test_every_form_of_an_entry() -> None:
    text = "no_first_event=15m, */whatsapp:no_send=never , sms/*:confirmation=48h,margin = 30m,"
    assert parse_deadlines(text + "messages/rcs:margin=2h, messages/rcs:no_send=10s") == {
        (None, None): {"no_first_event": 900, "margin": 1800},
        (None, "whatsapp"): {"no_send": None},
        ("sms", None): {"confirmation": 172_800},
        ("messages", "rcs"): {"margin": 7200, "no_send": 10},
    }
    assert parse_deadlines("") == {}


def test_every_api_can_be_named() -> None:
    assert set(APIS) == set(get_args(Api))


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("48h", "write [<api>/<channel>:]<what>=<duration>"),
        ("sms:confirmation=48h", "'sms' is no scope: write <api>/<channel>, * for any"),
        ("sms/*:final=48h", "'final' is not a thing to wait for (no_first_event, no_send,"),
        ("sms/*:no_sent=1h", "'no_sent' is not a thing to wait for; did you mean no_send?"),
        ("smss/*:no_send=1h", "'smss' is not an api; did you mean sms?"),
        ("*/watsapp:no_send=1h", "'watsapp' is not a channel; did you mean whatsapp?"),
        (
            "*/viber:no_send=1h",
            "'viber' is not a channel (sms, mms, rcs, whatsapp,",
        ),
        ("no_send=soon", "'soon' is no duration: write 30s, 5m or 1h"),
        ("no_send=0m", "'0m' is not longer than nothing"),
        ("confirmation=73h", "at most 72h: Vonage tells nothing later"),
        ("margin=never", "a margin is a duration"),
    ],
)
def test_what_is_wrong_is_a_sentence(entry: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="in '") as caught:
        parse_deadlines(f"no_first_event=1h, {entry}")
    assert str(caught.value).startswith(f"in {entry!r}: ")
    assert sentence in str(caught.value)


def test_nothing_is_said_twice() -> None:
    with pytest.raises(ValueError, match=r"in 'no_send=2h': this is said twice"):
        parse_deadlines("no_send=1h, no_send=2h")
