"""Scenarios: the files that come with sendtrace, files of one's own, and sentences for the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from sendtrace.runtime.settings import SettingsError
from sendtrace.simulator.scenario import (
    CALM,
    DEFAULT,
    Phase,
    Scenario,
    chosen,
    load,
    names,
)

HEAD = "[[phases]]\nfrom_seconds = 1\nto_seconds = 2\n"


def test_all_that_come_with_sendtrace_can_be_played() -> None:
    assert names() == ["carrier-outage", "edge-outage", "everything", "fraud-burst", "quiet-day"]
    assert DEFAULT in names()
    for name in names():
        assert load(name).about
    assert not load("quiet-day").phases
    assert load("everything").longest_seconds == 72 * 3600


def test_a_file_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("compression = 3\n[sms]\ndelivered = 1\n[shares]\nold = 0\n")
    found = load(str(path))
    assert (found.compression, found.sms, found.shares.old) == (3, {"delivered": 1}, 0)
    assert found.text == Scenario().text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("what = 1", "what"),
        ("[sms]\nlost = 1", "Invalid enum value 'lost'"),
        ("[sms]\ndelivered = 0", "the weights of a table are all 0"),
        ("[shares]\nold = 2", "old"),
        ("[shares]\nsms = 0.6\ninbound = 0.6", "above 1"),
        ("[channels]\npigeon = 1", "channels are sms"),
        ("compression = 1e-300", "Expected `float` >= 1.0 - at `$.compression`"),
        ("compression = inf", "Expected `float` <= 10000.0 - at `$.compression`"),
        ("longest_seconds = inf", "Expected `float` <= 31622400.0"),
        ("period_seconds = nan", "Expected `float` >= 1.0"),
        (HEAD + "rate = inf", "Expected `float` <= 1000.0 - at `$.phases[0].rate`"),
        (HEAD + "latency = 1e-300", "Expected `float` >= 0.001"),
        ("[[phases]]\nfrom_seconds = 0\nto_seconds = inf", "Expected `float` <= 31622400.0"),
        ("[sms]\ndelivered = 9000000000", "Expected `int` <= 1000000"),
        ("compression = 30\n[sms]\nlate = 1", "late endings need time"),
        ("longest_seconds = 60\n[chat]\nlate = 1", "late endings need time"),
        (HEAD + 'network = "1"', "networks are 23410"),
        ("[[phases]]\nfrom_seconds = 3\nto_seconds = 2", "ends before it begins"),
        ("not toml [", "Expected"),
    ],
)
def test_what_cannot_be_played_is_a_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"^--scenario .*mine\.toml: ") as raised:
        load(str(path))
    assert says in str(raised.value)


def test_a_name_that_is_none_is_a_sentence_with_those_that_are() -> None:
    with pytest.raises(SettingsError, match="nor one of carrier-outage, edge-outage, everything"):
        load("quiet-night")


def test_phases_hold_for_their_time_and_come_again() -> None:
    first, second = (Phase(from_seconds=f, to_seconds=t, rate=f) for f, t in ((10, 20), (15, 30)))
    once = Scenario(phases=(first, second))
    assert [once.at(s) for s in (9.9, 10, 19.9, 20, 30, 75)] == [
        CALM, first, first, second, CALM, CALM,
    ]  # fmt: skip
    again = Scenario(phases=(first, second), period_seconds=60)
    assert [again.at(s) for s in (75, 85, 121)] == [first, second, CALM]


def test_a_path_is_good_for_another_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    assert chosen("mine.toml") == str(tmp_path / "mine.toml")
    assert chosen("everything") == "everything"
    with pytest.raises(SettingsError, match="--scenario"):
        chosen("nothing.toml")
