"""Before anything is started: are the ports free, may the data folder be written, is there room?

Each answer is a sentence that says what to do. Nothing here starts or stops anything.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import psutil

from sendtrace.local.process import port_is_free

# Kafka preallocates little here, but a full disk in mid-write is the worst time to notice.
FREE_BYTES_NEEDED = 1_000_000_000
_ELSEWHERE = "set SENDTRACE_DATA_DIR to a folder of yours"


def taken(ports: Mapping[str, int]) -> dict[str, str]:
    """A sentence for each port that somebody listens on, by the name of who wanted it."""
    return {
        name: f"Port {port} ({name}) is taken{_by(port)}"
        for name, port in ports.items()
        if not port_is_free(port)
    }


def owner(port: int) -> psutil.Process | None:
    """Who listens on the port; None when the system does not tell (another user's process)."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        is_listening = connection.status == psutil.CONN_LISTEN
        if is_listening and connection.laddr.port == port and connection.pid is not None:
            try:
                return psutil.Process(connection.pid)
            except psutil.NoSuchProcess:
                return None
    return None


def _by(port: int) -> str:
    process = owner(port)
    if process is None:
        return ""
    try:
        return f" by {process.name()} (pid {process.pid})"
    except psutil.NoSuchProcess:
        return ""


def unwritable(folder: Path) -> str | None:
    """Create the folder; a sentence if that, or writing in it, is not allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder} cannot be created ({error.strerror}): {_ELSEWHERE}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} is not writable: {_ELSEWHERE}"
    return None


def short_of_room(folder: Path) -> str | None:
    """A sentence if the disk under the folder has less room than a stack needs."""
    free = shutil.disk_usage(folder).free
    if free >= FREE_BYTES_NEEDED:
        return None
    return (
        f"Only {free // 1_000_000} MB are free under {folder}, a stack needs "
        f"{FREE_BYTES_NEEDED // 1_000_000}: make room, or set SENDTRACE_DATA_DIR to another disk"
    )
