"""PostgreSQL on a small disk of its own, for the fault that fills it.

Run as a program (`confined.py FOLDER PORT`, on a tmpfs: `run_on_tmpfs`) it keeps PostgreSQL running
in the folder until SIGTERM. It holds the disk: PostgreSQL may end for want of room, and be started
again over the same data.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from sendtrace.local.postgres import LocalPostgres
from sendtrace.local.process import Child, LocalStackError

# Ourselves, with the right to mount: PostgreSQL would refuse to be root.
NAMESPACE = ("unshare", "--user", "--map-current-user", "--keep-caps", "--mount")
PAUSE_SECONDS = 0.5
STOP_SECONDS = 30.0


class ConfinedPostgres:
    """The part of LocalPostgres that a stack uses. With `kill` the data is gone, as its disk is."""

    def __init__(self, child: Child, port: int) -> None:
        self._child = child
        self.port = port
        self.dsn = f"postgresql://sendtrace@127.0.0.1:{port}/sendtrace"

    @classmethod
    async def start(cls, folder: Path, size_bytes: int, port: int) -> ConfinedPostgres:
        """Returns when the database answers."""
        program = [sys.executable, __file__, str(folder / "data"), str(port)]
        child = Child.start(
            "PostgreSQL on a small disk",
            run_on_tmpfs(folder, size_bytes, program),
            log_path=folder.with_name("confined.log"),
        )
        try:
            await child.wait_until(lambda: _has_started(child), 60)
        except BaseException:
            child.kill()
            raise
        return cls(child, port)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.running

    async def stop(self) -> None:
        await self._child.stop(STOP_SECONDS)

    def kill(self) -> None:
        self._child.kill()


def run_on_tmpfs(folder: Path, size_bytes: int, command: list[str]) -> list[str]:
    """The command, with a tmpfs of that size on `folder` that it alone sees.

    A mount needs no root in a user namespace, where the machine allows these. `sh` and `unshare`
    replace themselves, so the pid is the command's. With the last process its disk is gone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    script = 'mount -t tmpfs -o size="$1" tmpfs "$0" && shift && exec "$@"'
    return [*NAMESPACE, "sh", "-c", script, str(folder), str(size_bytes), *command]


async def _has_started(child: Child) -> bool:
    return b"started" in child.log_path.read_bytes()


async def _keep_running(folder: Path, port: int) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    postgres: LocalPostgres | None = None
    while not stopping.is_set():
        if postgres is None or not postgres.running:
            try:
                postgres = await LocalPostgres.start(folder, port=port)
                print("started", flush=True)
            except LocalStackError as error:
                print(error, flush=True)  # no room: the next try may find some
        await asyncio.sleep(PAUSE_SECONDS)
    if postgres is not None:
        await postgres.stop()


if __name__ == "__main__":
    asyncio.run(_keep_running(Path(sys.argv[1]), int(sys.argv[2])))
