"""The ledger survives kills: whole lines count, half ones do not."""

from pathlib import Path

from sendtrace.simulator.ledger import Entry, open_ledger, read_inbound, read_ledger
from sendtrace.simulator.traffic import Expected

ONE = Expected("id-1", "sms", "delivered")
TWO = Expected("id-2", "messages", "read")


def test_a_plan_is_on_disk_before_the_method_returns(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.jsonl"
    with open_ledger(path) as ledger:
        ledger.plan((ONE, TWO), 5)
        assert read_ledger(path) == {
            "id-1": Entry("id-1", "sms", "delivered", 5),
            "id-2": Entry("id-2", "messages", "read", 5),
        }


def test_only_what_was_completed_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with open_ledger(path) as ledger:
        ledger.plan((ONE,), 5)
        ledger.plan((TWO,), 6)
        ledger.complete((TWO,))
    assert {id_: entry.is_complete for id_, entry in read_ledger(path).items()} == {
        "id-1": False,
        "id-2": True,
    }


def test_a_half_written_line_is_ended_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with open_ledger(path) as ledger:
        ledger.plan((ONE,), 5)
    with path.open("ab") as file:
        file.write(b'{"message_id":"id-9","ap')
    with open_ledger(path) as ledger:
        ledger.plan((TWO,), 6)
    assert list(read_ledger(path)) == ["id-1", "id-2"]


def test_what_comes_in_is_beside_the_messages_with_an_outcome(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with open_ledger(path) as ledger:
        ledger.plan((ONE,), 5)
        ledger.plan_inbound(("in-1", "in-2"))
        ledger.complete_inbound(("in-2",))
    assert list(read_ledger(path)) == ["id-1"]
    assert read_inbound(path) == {"in-1": False, "in-2": True}
