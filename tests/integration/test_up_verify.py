"""`sendtrace up` with a scenario, and `verify` beside it; then with every process killed."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import psutil
import pytest

from sendtrace.simulator.ledger import read_ledger

from stack_up import ROOT, free_port_base, sendtrace, up

OURS = ("edge", "joiner", "rollup", "loader", "exporter")


@pytest.mark.timeout(900)
async def test_a_scenario_and_then_every_process_killed_once(tmp_path: Path) -> None:
    data_dir, base = tmp_path / "data", free_port_base()
    options = ("--scenario", "carrier-outage", "--for", "30s", "--rate", "30")
    verify = ("verify", "--port-base", str(base))
    async with up(data_dir, base, *options) as stack:
        await asyncio.sleep(30)
        code, text = await sendtrace(data_dir, *verify, "--json")
        assert code == 0, text
        first = json.loads(text)
        assert first["equal"]
        assert first["compared"]["messages"] > 300

        environment = _environment_of(stack.pid, "edge")
        ledger = data_dir / "ledger.jsonl"
        book = read_ledger(ledger)
        gone = [*list(book.messages)[:5], next(iter(book.inbound))]
        named = [option for one in gone for option in ("--message-id", one)]
        code, text = await sendtrace(data_dir, "forget", *named, "--port-base", str(base))
        assert code == 0, text

        announced_bytes = ledger.stat().st_size
        traffic = asyncio.create_task(_simulate(environment, "--rate", "30", "--for", "15s"))
        while ledger.stat().st_size == announced_bytes:  # it wants an edge when it starts
            assert not traffic.done()
            await asyncio.sleep(0.1)
        for name in OURS:
            await asyncio.sleep(2)
            _child(stack.pid, name).send_signal(signal.SIGKILL)
        assert await traffic == 0
        code, text = await sendtrace(data_dir, *verify)
        assert code == 0, text
        assert "Equal" in text
        assert "6 messages and 1 inbound ones were forgotten" in " ".join(text.split())


def _child(pid: int, name: str) -> psutil.Process:
    """The process itself: its guardian, which stands above it, has the same arguments."""
    return [
        child
        for child in psutil.Process(pid).children(recursive=True)
        if child.cmdline()[-3:] == ["-m", "sendtrace", name]
    ][-1]


def _environment_of(pid: int, name: str) -> dict[str, str]:
    """The settings that `up` gives its processes: accounts and tokens among them."""
    return _child(pid, name).environ()


async def _simulate(environment: dict[str, str], *arguments: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sendtrace", "simulate", *arguments, cwd=ROOT, env=environment
    )
    return await asyncio.wait_for(process.wait(), 180)
