"""Child processes of the local stack: started, watched, and never left behind.

Every server runs under a guardian (`guardian.py`), which holds one end of a pipe: when we die,
however we die, the pipe closes and the guardian stops the server cleanly.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GUARDIAN = Path(__file__).with_name("guardian.py")
LOG_TAIL_LINES = 15
POLL_SECONDS = 0.02
# Below the ports that outgoing connections use on Linux (32768 up), so none of them is in the way.
FREE_PORTS = range(20_000, 32_000)


class LocalStackError(Exception):
    """The local stack cannot do what was asked; the message says what to do about it."""


class ProcessDiffers(LocalStackError):
    """A process found other data than it knew (exit code 5), and would find it again."""


@dataclass(frozen=True)
class Identity:
    """Whom a child runs as."""

    uid: int
    gid: int


class Child:
    """A running server under its guardian. `stop` or `kill` ends it; so does our own death."""

    def __init__(
        self,
        name: str,
        guardian: subprocess.Popen[bytes],
        pid: int,
        log_path: Path,
        stop_signal: signal.Signals,
    ) -> None:
        self.name = name
        self.pid = pid
        self.log_path = log_path
        self._guardian = guardian
        self._stop_signal = stop_signal

    @classmethod
    def start(
        cls,
        name: str,
        argv: Sequence[str | Path],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        identity: Identity | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> Child:
        """Start `argv` in a session of its own, all output to `log_path`, folder of the log as cwd.

        Blocks for the some 20 ms until the guardian reports: an await here could be cancelled
        between the start and the handle, and a child without a handle is a leak. The log of the
        run before is kept as `<log>.1`.
        """
        if log_path.exists():
            log_path.replace(log_path.with_name(log_path.name + ".1"))
        order = {
            "identity": [identity.uid, identity.gid] if identity else None,
            "stop_signal": int(stop_signal),
        }
        guardian_argv = [sys.executable, "-I", "-S", str(GUARDIAN), json.dumps(order)]
        with log_path.open("wb") as log:
            guardian = subprocess.Popen(
                [*guardian_argv, *map(str, argv)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=env,
                cwd=log_path.parent,
                start_new_session=True,
            )
        assert guardian.stdout is not None
        reported = guardian.stdout.readline()
        child = cls(name, guardian, int(reported or 0), log_path, stop_signal)
        if not reported:
            guardian.wait()
            child._close_pipes()
            raise LocalStackError(f"{name} could not be started.\n{child.log_tail()}")
        return child

    @property
    def running(self) -> bool:
        return self._guardian.poll() is None

    def log_tail(self) -> str:
        """The last lines of the log, for a message to a person."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join([f"The end of {self.log_path}:", *lines[-LOG_TAIL_LINES:]])

    async def wait(self, timeout_seconds: float) -> int:
        """The exit code (128 + n when signal n ended it); TimeoutError while it still runs."""
        deadline = time.monotonic() + timeout_seconds
        while (code := self._guardian.poll()) is None:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{self.name} still runs after {timeout_seconds:g} s")
            await asyncio.sleep(POLL_SECONDS)
        self._close_pipes()
        return code

    async def wait_until(
        self, ready: Callable[[], Awaitable[bool]], timeout_seconds: float
    ) -> None:
        """Return once `ready()` is true; LocalStackError when the child died or took too long."""
        deadline = time.monotonic() + timeout_seconds
        while not await ready():
            if not self.running:
                self._close_pipes()
                raise LocalStackError(f"{self.name} ended while starting.\n{self.log_tail()}")
            if time.monotonic() >= deadline:
                raise LocalStackError(
                    f"{self.name} was not ready after {timeout_seconds:g} s: free the machine or"
                    f" allow more time.\n{self.log_tail()}"
                )
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self, timeout_seconds: float) -> None:
        """Ask it to stop, kill it after the timeout, return when it is gone. May be repeated."""
        self._send(self._stop_signal)
        try:
            await self.wait(timeout_seconds)
        except TimeoutError:
            self.kill()

    def kill(self) -> None:
        """SIGKILL; returns when it is gone (milliseconds). May be repeated."""
        self._send(signal.SIGKILL)
        try:
            self._guardian.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._guardian.kill()  # and PR_SET_PDEATHSIG ends the server with it
            self._guardian.wait()
        self._close_pipes()

    def _send(self, signum: signal.Signals) -> None:
        # Through the guardian, which alone knows whether the pid is still its child's.
        assert self._guardian.stdin is not None
        if self.running and not self._guardian.stdin.closed:
            with suppress(BrokenPipeError):  # it ended just now: what we wanted
                self._guardian.stdin.write(b"%d\n" % signum)
                self._guardian.stdin.flush()

    def _close_pipes(self) -> None:
        for pipe in (self._guardian.stdin, self._guardian.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # unsent bytes for a guardian that is gone
                pipe.close()


async def run_to_end(child: Child, timeout_seconds: float) -> None:
    """Wait for a child that ends by itself; LocalStackError unless it does so with code 0."""
    try:
        code = await child.wait(timeout_seconds)
    except TimeoutError as error:
        raise LocalStackError(f"{error}: free the machine or allow more time.") from error
    finally:
        child.kill()
    if code != 0:
        raise LocalStackError(f"{child.name} failed with code {code}.\n{child.log_tail()}")


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do, or a port in TIME_WAIT would look taken after a restart.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def choose_port(wanted: int, *, but_not: int = 0) -> int:
    """`wanted`; for 0 any free one other than `but_not`. LocalStackError when `wanted` is taken."""
    if wanted == 0:
        candidates = random.sample(FREE_PORTS, 200)
        return next(port for port in candidates if port != but_not and port_is_free(port))
    if not port_is_free(wanted):
        raise LocalStackError(
            f"Port {wanted} on 127.0.0.1 is taken or not allowed: stop what listens there, or"
            " choose another port."
        )
    return wanted
