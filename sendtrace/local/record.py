"""``up.json``: the processes of the stack in a data folder, so that `down` can end what was left.

Who runs `up` itself stands in the lock's owner file (datadir.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import psutil

from sendtrace.local.datadir import Owner, read_owner

NAME = "up.json"
# `up` stops eight things in order, each within a bound of its own.
UP_SECONDS = 90.0
CHILD_SECONDS = 10.0


def write(data_dir: Path, pids: Mapping[str, int]) -> None:
    """Replace the record as a whole: a reader never sees half of one."""
    processes = {}
    for name, pid in pids.items():
        try:
            processes[name] = asdict(Owner.of(pid))
        except psutil.NoSuchProcess:
            continue  # ended since; nothing to end later
    target = data_dir / NAME
    partial = target.with_name(NAME + ".partial")
    partial.write_text(json.dumps(processes))
    partial.replace(target)


def read(data_dir: Path) -> dict[str, Owner]:
    """The processes by name; empty when no stack was left here."""
    try:
        processes = json.loads((data_dir / NAME).read_text())
    except FileNotFoundError:
        return {}
    return {name: Owner(**process) for name, process in processes.items()}


def remove(data_dir: Path) -> None:
    (data_dir / NAME).unlink(missing_ok=True)


def stop_left_behind(data_dir: Path) -> list[str]:
    """End the stack of this data folder: in order through `up` if that runs, else piece by piece.

    Blocks until it is gone. Answers what was done, a line each.
    """
    lines = []
    processes = read(data_dir)
    up = read_owner(data_dir)
    if up is not None:
        is_gone = _end(up, UP_SECONDS)
        how = "Stopped" if is_gone else "Killed, as it did not stop,"
        lines.append(f"{how} `sendtrace up` (pid {up.pid})")
    for name, process in processes.items():
        if process.is_alive():
            _end(process, CHILD_SECONDS)
            lines.append(f"Stopped {name} (pid {process.pid}), which was left behind")
    remove(data_dir)
    return lines or [f"No stack runs in {data_dir}"]


def _end(owner: Owner, seconds: float) -> bool:
    """SIGTERM, and SIGKILL when that was not enough. True if it was."""
    if not owner.is_alive():
        return True
    process = psutil.Process(owner.pid)
    try:
        process.terminate()
        if owner.wait_until_gone(seconds):
            return True
        process.kill()
    except psutil.NoSuchProcess:
        return True
    owner.wait_until_gone(CHILD_SECONDS)
    return False
