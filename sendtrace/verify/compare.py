"""Holds everything against everything else: id by id, and sum by sum. Pure.

1. Inputs against the simulator's log (inputs.py): what was answered 200 is there, as often as it
   was answered or cut, with the same bytes, and what was never sent is not.
2. Lifecycles and rollups against the ledger (expected.py), which knows nothing of the join:
   outcome, flags, cost, latencies, facts; and nothing that the ledger does not have. The facts of
   a lifecycle, and what follows from them and from parts, are worked out once more from the inputs.
   Of inbound messages: that each is there. Of what was to be erased: that nothing is left.
3. Tables against topics (tables.py): the row of each record as it follows from it, every column.
4. Figures against lifecycles and rollups (figures.py): the sum of what each one stands for; and
   against the inputs, each counted once. Latency histograms against all that the lifecycles ever
   were (latencies.py).
5. No topic that is written on change alone holds a value twice in a row (inputs.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from processors.join.policy import Policy
from sendtrace.simulator.ledger import Book
from sendtrace.simulator.requests import Logged
from sendtrace.verify import expected, figures, inputs, latencies, tables
from sendtrace.verify.found import Found, Report
from sinks.rows import InboundReading


def compare(
    book: Book,
    requests: Sequence[Logged],
    found: Found,
    policy: Policy,
    reading: InboundReading,
    slack_us: int,
) -> Report:
    """Everything above. ``slack_us``: within so much after a deadline both standings are right."""
    report = Report()
    report.differences += inputs.differences(requests, found, report.compared)
    report.differences += inputs.changed(requests, found)
    report.differences += inputs.doubled(found)
    report.differences += expected.messages(book, found, slack_us, report.compared)
    report.differences += expected.rollups(book, found, slack_us, report.compared)
    report.differences += expected.inbound(book, found, report.compared)
    report.differences += expected.unjoined(found)
    report.differences += expected.underived(found, policy)
    report.differences += tables.differences(found, reading, report.compared)
    report.differences += figures.differences(found, report.compared, report.notes)
    report.differences += figures.events(found, report.compared)
    report.differences += latencies.differences(found, report.compared, report.notes)
    if found.erased or found.inbound_forgotten:
        report.notes.append(
            f"{len(found.erased)} messages and {len(found.inbound_forgotten)} inbound ones were "
            "forgotten by `sendtrace forget`: of them it was asked only that nothing is left"
        )
    if not book.complete:
        report.notes.append("nothing was sent to its end, so no outcome is known to be right")
    if not found.is_at_rest:
        report.notes.append("something was still under way when the time was up")
    return report
