"""SIGSTOP and SIGCONT for a process and all its children (PostgreSQL has one per connection)."""

from __future__ import annotations

import contextlib

import psutil


def suspend_tree(pid: int) -> None:
    """The parent first, so that it starts no child meanwhile."""
    process = psutil.Process(pid)
    process.suspend()
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.suspend()


def resume_tree(pid: int) -> None:
    """Does nothing for a process that is gone: a fault may have ended it meanwhile."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.resume()
    process.resume()
