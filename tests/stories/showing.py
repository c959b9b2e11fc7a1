"""Shows lifecycles and rollups in the words of ``tales.md``: every field that says something.

Two values that differ are never shown alike, so that to compare what is shown is to compare all.
"""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins

from schemas.events import Fact
from schemas.lifecycle import Lifecycle
from schemas.numbers import MONEY_UNITS, SECOND_US
from schemas.rollup import Rollup

from stories.telling import OURS, Cells

_CLOCKS = {"vonage": "Vonage's clock", "ours": "our clock", "client": "the client's clock"}


def show_lifecycle(lifecycle: Lifecycle, start_us: int) -> Cells:
    """What follows from the facts, then the facts themselves, in the order in which they came."""
    summary = to_builtins(lifecycle.summary)
    facts = sorted(lifecycle.facts, key=lambda fact: fact.arrived_at_us)
    overdue = sorted(lifecycle.overdue, key=lambda known: known.at_us)
    return _cells(
        {
            **_outcome(summary, start_us),
            **_clocked(summary, "sent_at_us", "send_clock", start_us),
            **_cost(summary),
            **summary,
            "heard": "; ".join(_fact(fact, start_us) for fact in facts),
            "waited in vain": "; ".join(
                f"{known.kind.replace('_', ' ')} until {_time(known.at_us - start_us)}"
                for known in overdue
            ),
        },
        start_us,
    )


def show_rollup(rollup: Rollup, start_us: int) -> Cells:
    summary = to_builtins(rollup.summary)
    costs = [_money(units) + " " + currency for currency, units in summary.pop("costs", ())]
    members = [f"{item.part.message_id} {item.part.outcome}" for item in rollup.items]
    return _cells(
        {
            **_outcome(summary, start_us),
            **summary,
            "cost": ", ".join(costs),
            "messages": ", ".join(members),
        },
        start_us,
    )


def _outcome(summary: dict[str, Any], start_us: int) -> dict[str, str]:
    words = [summary.pop("outcome")]
    words += [name for name in ("final", "open") if summary.pop(f"is_{name}", False)]
    at = _clocked(summary, "outcome_at_us", "outcome_clock", start_us)
    return {"outcome": ", ".join(words), **at}


def _clocked(summary: dict[str, Any], at: str, clock: str, start_us: int) -> dict[str, str]:
    """A time with the clock that told it."""
    if at not in summary or clock not in summary:
        return {}
    time = _time(summary.pop(at) - start_us)
    return {at.removesuffix("_us"): f"{time} by {_CLOCKS[summary.pop(clock)]}"}


def _cost(summary: dict[str, Any]) -> dict[str, str]:
    if "cost_units" not in summary or "currency" not in summary:
        return {}
    return {"cost": f"{_money(summary.pop('cost_units'))} {summary.pop('currency')}"}


def _fact(fact: Fact, start_us: int) -> str:
    code = f" ({fact.code})" if fact.code else ""
    said = "" if fact.provider_at_us is None else f" at {_time(fact.provider_at_us - start_us)}"
    signed = "" if fact.account in ("", OURS) else f", signed by {fact.account}"
    return f"{fact.status}{code}{said}, heard at {_time(fact.arrived_at_us - start_us)}{signed}"


def _cells(fields: dict[str, Any], start_us: int) -> Cells:
    shown = {}
    for name, value in fields.items():
        unit = next((unit for unit in ("_us", "_ms", "_units") if name.endswith(unit)), "")
        label = name.removesuffix(unit).replace("_", " ")
        shown[label] = _text(value, unit, start_us)
    return {label: text for label, text in shown.items() if text}


def _text(value: Any, unit: str, start_us: int) -> str:
    if type(value) is bool:
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(value)
    if unit == "_us":
        return _time(value - start_us)
    if unit == "_units":
        return _money(value)
    return f"{value} ms" if unit == "_ms" else str(value)


def _time(passed_us: int) -> str:
    """Whole hours and the seconds beyond them."""
    hours, rest_us = divmod(passed_us, 3600 * SECOND_US) if passed_us > 0 else (0, passed_us)
    rest = f"{rest_us / SECOND_US:.6f}".rstrip("0").rstrip(".") + " s"
    if not hours:
        return rest
    return f"{hours} h {rest}" if rest_us else f"{hours} h"


def _money(units: int) -> str:
    return f"{units / MONEY_UNITS:.8f}".rstrip("0").rstrip(".")
