"""What a fragment may change in a row. Pure; ``sinks/statements.py`` says the same in SQL.

A fact that comes after its message was forgotten starts a fragment: a lifecycle, or a rollup, that
knows only what came since. It never replaces a known value by nothing.

1. Over a whole row, what the row knows stays; what it does not know is filled in.
2. Its outcome counts only if it is final and the row's is not, or is the better success: read
   before delivered before all others. Then all that belongs to the outcome is the fragment's.
3. Over the row of a fragment, what the later one knows counts, and its outcome, unless that would
   undo a final one or a success: it is mostly the same fragment, some facts later.
4. Times of the first and last event span both; flags are the union; the columns of a cost go
   together.
"""

from __future__ import annotations

from typing import NamedTuple

from sinks.rows import MESSAGES, ROLLUPS, VERSION_COLUMNS, Row, Table

SUCCESSES = {"read": 2, "delivered": 1}
VERSION = tuple(column.name for column in VERSION_COLUMNS)


class Rule(NamedTuple):
    """Which columns of a table go together, and which span both."""

    table: Table
    outcome: tuple[str, ...]  # replaced together, also by nothing: a delivered message has no code
    cost: tuple[str, ...]
    earliest: str = ""
    latest: str = ""
    union: str = ""


OF_MESSAGES = Rule(
    MESSAGES,
    outcome=(
        "outcome", "is_final", "is_open", "outcome_at", "outcome_clock", "status_last", "code",
        "category", "error_instance",
    ),
    cost=("cost", "currency", "currency_source", "cost_source"),
    earliest="first_event_at",
    latest="last_event_at",
    union="flags",
)  # fmt: skip
OF_ROLLUPS = Rule(
    ROLLUPS,
    outcome=("outcome", "is_final", "is_open", "outcome_at", "decided_by"),
    cost=("cost", "currency"),
)


def merged(rule: Rule, row: Row, fragment: Row) -> Row:
    """The row after a later fragment of its message, or of its send."""
    names = rule.table.names
    made = dict(zip(names, row, strict=True))
    given = dict(zip(names, fragment, strict=True))
    later_first = bool(made["fragment"])
    together: tuple[str, ...] = VERSION
    if _takes_outcome(made, given):
        together += rule.outcome
    if made["cost"] is None or (later_first and given["cost"] is not None):
        together += rule.cost
    apart = (*rule.outcome, *rule.cost, "fragment")
    for name in names:
        old, new = made[name], given[name]
        if name in together:
            made[name] = new
        elif name in apart:
            continue
        elif name == rule.union:
            made[name] = tuple(sorted({*old, *new}))  # type: ignore[misc]
        elif old is None or new is None:
            made[name] = new if old is None else old
        elif name == rule.earliest:
            made[name] = min((old, new))  # type: ignore[type-var]
        elif name == rule.latest:
            made[name] = max((old, new))  # type: ignore[type-var]
        elif later_first:
            made[name] = new
    return tuple(made.values())


def _takes_outcome(row: dict[str, object], fragment: dict[str, object]) -> bool:
    gain = _success(fragment) - _success(row)
    if row["fragment"]:
        return gain >= 0 and bool(fragment["is_final"] or not row["is_final"])
    return gain > 0 or bool(fragment["is_final"] and not row["is_final"])


def _success(row: dict[str, object]) -> int:
    return SUCCESSES.get(str(row["outcome"]), 0)
