"""A report for people and for programs. Shows at most ten differences: the first tell enough."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sendtrace.verify.found import Report

SHOWN = 10


def as_json(report: Report) -> str:
    return msgspec.json.format(
        msgspec.json.encode(
            {
                "equal": report.is_equal,
                "compared": dict(report.compared),
                "differences": len(report.differences),
                "first": report.differences[:SHOWN],
                "notes": report.notes,
            }
        ),
        indent=2,
    ).decode()


def show(report: Report, console: Console) -> None:
    compared = ", ".join(f"{number:,} {what}" for what, number in report.compared.items())
    console.print(f"Compared {compared}.")
    for note in report.notes:
        console.print(f"Note: {note}.")
    if report.is_equal:
        console.print("Equal: ledger, topics, warehouse and /metrics say the same.")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("where", "of", "difference"):
        table.add_column(heading, overflow="fold")
    for each in report.differences[:SHOWN]:
        table.add_row(each.where, each.key, escape(each.sentence))
    console.print(table)
    number = len(report.differences)
    console.print(f"Not equal: {number:,} differences, the first {min(number, SHOWN)} above.")
