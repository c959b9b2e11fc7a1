"""`sendtrace up` as a new user meets it: the README's example by curl, Ctrl-C, and once more."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from stack_up import ROOT, cpu_seconds, free_port_base, sendtrace, up

# The promise for a start over data that is there; in CPU time, which others do not use up.
SECOND_START_SECONDS = 20


async def script(base: int, data_dir: Path) -> str:
    """What examples/seeds.sh prints."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "examples/seeds.sh",
        cwd=ROOT,
        env={
            **os.environ,
            "PORT_BASE": str(base),
            "PYTHON": sys.executable,
            "SENDTRACE_DATA_DIR": str(data_dir),
        },
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0
    return output.decode()


def rows(text: str) -> dict[str, str]:
    return dict(re.findall(r"^message_id=(\S+)  outcome=(\S+)", text, re.MULTILINE))


def figures(text: str) -> list[str]:
    return re.findall(r"^sendtrace_messages.*", text, re.MULTILINE)


async def test_the_example_by_curl_and_a_second_start(tmp_path: Path) -> None:
    data_dir, base = tmp_path / "data", free_port_base()
    expected = {
        "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab": "pending",
        "aaaaaaaa-bbbb-cccc-dddd-0123456789ab": "delivered",
        "0A0000001234567B": "delivered",
        "02000000E68951D8": "delivered",
        "000000FFFB0356D2": "delivered",
    }
    async with up(data_dir, base, "--no-simulate"):
        text = await script(base, data_dir)
        assert text.count("-> HTTP 200") == 8
        assert rows(text) == expected
        kept = re.findall(r"^sendtrace\.quarantine: .*  reason=(.+)$", text, re.MULTILINE)
        assert kept == []
        assert 'sendtrace_messages_total{account="local",api="sms_or_alerts"' in text
    async with up(data_dir, base, "--no-simulate") as stack:
        took = cpu_seconds(stack.pid)
        print(f"second start: {took:.1f} s of CPU")
        # The same webhooks once more: the same rows, nothing counted twice.
        again = await script(base, data_dir)
        assert rows(again) == expected
        before, after = (
            re.findall(r"^sendtrace_messages.*", t, re.MULTILINE) for t in (text, again)
        )
        assert before == after
        known = ("02000000E68951D8", "--port-base", str(base), "--json")
        code, said = await sendtrace(data_dir, "explain", *known)
        assert (code, '"headline": "delivered' in said) == (0, True), said
        code, said = await sendtrace(data_dir, "forget", "--message-id", *known)
        assert (code, '"messages":1' in said) == (0, True), said
    assert took < SECOND_START_SECONDS


async def test_a_second_up_is_refused_at_once(tmp_path: Path) -> None:
    data_dir, base = tmp_path / "data", free_port_base()
    async with up(data_dir, base, "--no-simulate"):
        code, said = await sendtrace(data_dir, "up", "--port-base", str(base))
        assert code == 4
        assert "another" in said.lower() or "runs" in said.lower(), said
