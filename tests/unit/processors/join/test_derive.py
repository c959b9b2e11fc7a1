"""The summary as a whole: whose message it is, codes, flags, traffic, and how it is built."""

from __future__ import annotations

import ast
import inspect

import pytest

from processors.join import derive
from processors.join.deadlines import Deadline, fire, next_deadline
from processors.join.flags import is_late
from processors.join.policy import Policy
from schemas.lifecycle import Overdue, Summary

from strategies import HOUR, S, T, Told, at, fold, overdue, receipt, send, status, summary


def test_the_summary_is_built_in_the_order_of_its_fields() -> None:
    """By position, since by name costs ten times as much: so each value must be of that name."""
    [call] = [
        node
        for node in ast.walk(ast.parse(inspect.getsource(derive)))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Summary"
    ]
    names = []
    for value in call.args:
        if isinstance(value, ast.Call):  # _at(seen.submitted)
            value = value.args[0]
            names.append(f"{value.attr}_at_us" if isinstance(value, ast.Attribute) else "")
        else:
            names.append(value.attr if isinstance(value, ast.Attribute) else value.id)  # type: ignore[attr-defined]
    expected = ["receipt_expected" if name == "expected" else name for name in names]
    assert expected == list(Summary.__struct_fields__)


def test_the_send_counts_before_the_facts() -> None:
    sent = send(api="alerts", sender="Acme", recipient="447400123456", client_ref="ours")
    fact = receipt("delivered", sender="ACME", client_ref="theirs", network="23410")
    found = summary(sent, fact)
    assert (found.api, found.sender, found.client_ref) == ("alerts", "Acme", "ours")
    assert (found.country, found.network_final) == ("GB", "23410")
    alone = summary(fact)
    assert (alone.api, alone.sender, alone.client_ref) == ("sms_or_alerts", "ACME", "theirs")


def test_two_networks_the_answers_and_the_events() -> None:
    found = summary(send(network="US-FIXED"), status("delivered", network="310260"))
    assert (found.network_estimated, found.network_final) == ("US-FIXED", "310260")


def test_the_primary_of_a_failover_is_item_1() -> None:
    found = summary(send(workflow_id="w", failover_items=1))
    assert (found.workflow_id, found.workflow_item, found.workflow_items) == ("w", 1, 2)
    item = summary(status("submitted", workflow_id="w", workflow_item=2, workflow_items=2))
    assert (item.workflow_id, item.workflow_item, item.workflow_items) == ("w", 2, 2)


@pytest.mark.parametrize(
    ("events", "code", "category", "flags"),
    [
        ([receipt("failed", code="9")], "9", "number", ()),
        ([status("rejected", code="1210")], "1210", "content", ()),
        ([status("rejected", code="1360", version="v0.1")], "1360", "no_confirmation", ()),
        ([status("delivered", code="1300")], "1300", None, ()),
        ([receipt("accepted", code="7")], "7", None, ("retrying",)),
        ([status("submitted", code="1220")], "1220", None, ("retrying",)),
        ([receipt("expired")], None, "no_confirmation", ()),
        ([receipt("expired", code="1")], "1", "no_confirmation", ()),
        ([receipt("failed")], None, "unknown", ()),
        ([receipt("failed", code="4711")], "4711", "unknown", ("unknown_code",)),
        ([send(api="sms", refused=True, answer="throttled", answer_status="1")], "1", "throttle",
         ()),
        ([send(refused=True, answer_status="422", error_code="1150")], "422", "caller", ()),
        ([send(refused=True, answer_status="429")], "429", "throttle", ()),
    ],
)  # fmt: skip
def test_codes_and_categories(
    events: list[Told], code: str | None, category: str | None, flags: tuple[str, ...]
) -> None:
    found = summary(*events)
    assert (found.code, found.category, found.flags) == (code, category, flags)


def test_retrying_ends_with_the_final_word() -> None:
    assert summary(receipt("accepted", code="7"), receipt("delivered")).flags == ()


@pytest.mark.parametrize("failure", ["rejected", "failed", "undeliverable", "expired"])
def test_delivered_after_a_failure_is_a_contradiction(failure: str) -> None:
    assert summary(status(failure), status("delivered")).flags == ("contradiction",)
    assert summary(status(failure), status("read")).flags == ("contradiction",)


def test_a_foreign_account_stays_in_the_set_and_is_ignored() -> None:
    found = summary(send(account="acc1"), status("delivered", account="acc2", price_units=9))
    assert (found.outcome, found.flags) == ("pending", ("foreign_account",))
    assert found.cost_units is None
    assert summary(status("delivered", account="acc2")).outcome == "delivered"  # no send, no foe
    assert summary(send(account="acc1"), status("delivered")).outcome == "delivered"  # unverified


def test_a_parent_account_is_not_foreign() -> None:
    policy = Policy(parents={"acc1": frozenset({"parent"})})
    sent, fact = send(account="acc1"), status("delivered", account="parent")
    assert summary(sent, fact, policy=policy).outcome == "delivered"
    assert summary(sent, fact).flags == ("foreign_account",)


def test_late_is_told_by_arrival_and_never_by_an_overdue_fact() -> None:
    in_time = status("delivered", 1, arrived_at_us=at(73 * HOUR))
    too_late = status("delivered", 1, arrived_at_us=at(73 * HOUR + 1))
    assert summary(send(), in_time, overdue()).flags == ()
    assert summary(send(), too_late).flags == ("late",)
    # Without a send it is counted from the first fact's arrival.
    first = status("submitted", 0, arrived_at_us=T)
    assert summary(first, too_late).flags == ("late",)
    assert summary(first, in_time).flags == ()


def test_late_knows_no_gaps() -> None:
    """A gap moves the deadline that fires, but is not in the set: two joiners that know of other
    gaps must get the same bytes. So a message may be late that was never overdue."""
    lifecycle = fold([send()])
    [gap] = gaps = [(at(HOUR), at(3 * HOUR))]
    lifecycle = fire(lifecycle, Deadline(at(600), "no_first_event"))
    deadline = next_deadline(lifecycle, Policy(), gaps)
    step_us = int(Policy().retry_step_seconds * S)
    moved_us = at(73 * HOUR) + gap[1] - gap[0] + step_us
    assert deadline == Deadline(moved_us, "final")
    between = status("delivered", 1, arrived_at_us=at(74 * HOUR))
    assert at(73 * HOUR) < between.arrived_at_us < deadline.at_us
    assert summary(send(), between).flags == ("late",)
    assert "gaps" not in inspect.signature(is_late).parameters
    assert "gaps" not in inspect.signature(derive.summarise).parameters


def test_late_knows_the_ttl() -> None:
    fact = status("delivered", 1, arrived_at_us=at(2 * HOUR))
    assert summary(send(ttl_ms=60_000), fact).flags == ("late",)
    assert summary(send(ttl_ms=HOUR * 1000), fact).flags == ()


def test_flags_of_what_stands() -> None:
    assert summary(send(), Overdue("no_first_event", T)).flags == ("no_first_event",)
    found = summary(Overdue("no_send", T), overdue(), status("submitted"))
    assert found.flags == ("no_send", "overdue")
    assert summary(status("submitted", mended=True)).flags == ("mended_time",)
    gone = send(message_id="s.1", answer="unanswered", answer_status=None)
    assert summary(gone).flags == ("unanswered",)


@pytest.mark.parametrize(
    ("event", "traffic"),
    [
        (send(), "live"),
        (send(host="messages-sandbox.nexmo.com"), "test"),
        (send(host="api.nexmo.com"), "live"),
        (send(account="acc-test"), "test"),
        (status("submitted", account="acc-test"), "test"),
        (status("submitted", client_ref="probe-1"), "test"),
        (status("submitted", client_ref="order-1"), "live"),
    ],
)
def test_test_traffic(event: Told, traffic: str) -> None:
    policy = Policy(
        test_accounts=frozenset({"acc-test"}), test_client_ref_prefixes=("probe-", "smoke-")
    )
    assert summary(event, policy=policy).traffic == traffic


def test_arrivals_are_of_all_facts() -> None:
    found = summary(status("submitted", arrived_at_us=5), status("delivered", arrived_at_us=9))
    assert (found.first_event_at_us, found.last_event_at_us) == (5, 9)
