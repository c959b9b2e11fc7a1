"""The ledger survives kills: whole lines count, half ones do not."""

from pathlib import Path

import msgspec
import pytest

from sendtrace.simulator.ledger import (
    Inbound,
    Message,
    Rollup,
    RollupStanding,
    Run,
    Standing,
    open_ledger,
    read_ledger,
)

PENDING = Standing(outcome="pending")
MISSING = Standing(outcome="missing", flags=("no_first_event", "overdue"))
ONE = Message(
    message_id="id-1", api="sms", planned_at_us=5, told=PENDING, settled=MISSING,
    settles_at_us=1_000, facts=(("accepted", "7"),), carrier_latency_ms=3,
)  # fmt: skip
TWO = Message(message_id="id-2", api="messages", planned_at_us=6, told=PENDING, settled=PENDING)
ROLLED = RollupStanding(outcome="pending", costs=(("EUR", 3),))
BOTH = Rollup(
    id="s-1", kind="parts", message_ids=("id-1", "id-2"), told=ROLLED, settled=ROLLED
)  # fmt: skip
CAME_IN = Inbound(message_id="in-1", api="sms", channel="sms", planned_at_us=7)


def test_a_plan_is_on_disk_before_the_method_returns(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.jsonl"
    run = Run(scenario="s", seed=1, rate=2.0, time_scale=3.0, started_at_us=4)
    with open_ledger(path) as ledger:
        ledger.announce([run, ONE, TWO, BOTH, CAME_IN])
        book = read_ledger(path)
    assert book.runs == [run]
    assert book.messages == {"id-1": ONE, "id-2": TWO}
    assert book.rollups == {"s-1": BOTH}
    assert book.inbound == {"in-1": CAME_IN}
    assert book.cut_short == {"id-1", "id-2", "s-1", "in-1"}


def test_only_what_was_completed_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with open_ledger(path) as ledger:
        ledger.announce([ONE, TWO, CAME_IN])
        ledger.complete(["id-2", "in-1"])
    book = read_ledger(path)
    assert (book.complete, book.cut_short) == ({"id-2", "in-1"}, {"id-1"})


def test_what_is_planned_again_is_to_be_completed_again(tmp_path: Path) -> None:
    """The same seed twice: the later plan holds."""
    path = tmp_path / "ledger.jsonl"
    again = msgspec.structs.replace(ONE, planned_at_us=50)
    with open_ledger(path) as ledger:
        ledger.announce([ONE])
        ledger.complete(["id-1"])
        ledger.announce([again])
    book = read_ledger(path)
    assert book.messages == {"id-1": again}
    assert book.cut_short == {"id-1"}


def test_a_half_written_line_is_ended_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with open_ledger(path) as ledger:
        ledger.announce([ONE])
    with path.open("ab") as file:
        file.write(b'{"line":"message","message_id":"id-9","ap')
    with open_ledger(path) as ledger:
        ledger.announce([TWO])
    assert list(read_ledger(path).messages) == ["id-1", "id-2"]


def test_a_line_of_another_kind_is_no_line_that_a_kill_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"message_id":"id-1","expected":"delivered"}\n')
    with pytest.raises(msgspec.ValidationError):
        read_ledger(path)


@pytest.mark.parametrize(
    ("now_us", "standings"),
    [(999, (PENDING,)), (1_000, (PENDING, MISSING)), (1_500, (PENDING, MISSING)),
     (1_501, (MISSING,))],
)  # fmt: skip
def test_within_the_slack_after_the_deadline_both_may_be_found(
    now_us: int, standings: tuple[Standing, ...]
) -> None:
    assert ONE.standings(now_us, slack_us=500) == standings
    assert TWO.standings(now_us, slack_us=500) == (PENDING,)
