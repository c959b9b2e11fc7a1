"""The guardian: the small program between the local stack and each of its servers.

It starts one program, passes on the signal numbers that arrive on stdin, and stops the program
when stdin closes, which happens however the parent dies. Why not less: PR_SET_PDEATHSIG alone
follows the parent's *thread* and can only kill, not stop; a handler in the parent does not run
on SIGKILL. The guardian uses PR_SET_PDEATHSIG for itself, so that killing the guardian ends the
server too (there it is sound: the guardian's first thread lives as long as the guardian).

Run by path with `-I -S` by `process.py`: it imports only the standard library, and little of it,
for it costs its start time and memory once per server.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time

# How long a server may take to stop by itself once its parent is gone.
ORPHAN_GRACE_SECONDS = 20
PR_SET_PDEATHSIG = 1


def _die_with_guardian() -> None:
    """In the child, after the change of user (which would clear it) and before exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _guard(order: dict[str, list[int] | int | None], argv: list[str]) -> None:
    """The guardian: run `argv`, pass on signal numbers from stdin, stop it when stdin closes."""
    identity = order["identity"]
    uid, gid = identity if isinstance(identity, list) else (None, None)
    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        user=uid,
        group=gid,
        extra_groups=None if uid is None else [],
        preexec_fn=_die_with_guardian,
    )
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # after the start: the child must not inherit this
    os.write(sys.stdout.fileno(), b"%d\n" % child.pid)

    def leave_with_child() -> None:
        code = child.wait()
        os._exit(code if code >= 0 else 128 - code)

    threading.Thread(target=leave_with_child).start()
    for line in sys.stdin.buffer:
        child.send_signal(int(line))
    stop_signal = order["stop_signal"]
    assert isinstance(stop_signal, int)
    child.send_signal(stop_signal)
    time.sleep(ORPHAN_GRACE_SECONDS)
    child.kill()


if __name__ == "__main__":
    _guard(json.loads(sys.argv[1]), sys.argv[2:])
