"""Small disks, for the faults that fill them: a tmpfs in a mount namespace of whoever holds it.

A mount needs no root in a user namespace, where the machine allows these. Others reach the disk
through `/proc/<pid of the holder>/root`, and it is gone with its holder. So state lies on a disk
that is held beside its process (`Disk`), and outlives its kills.

PostgreSQL refuses to be root, and whom it runs as instead may not go through /proc: it runs within
the namespace. Run as a program (`confined.py FOLDER PORT`) this keeps PostgreSQL as it is wanted.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

import asyncpg
import psutil

from sendtrace.local.postgres import LocalPostgres
from sendtrace.local.process import Child, LocalStackError

# Ourselves, with the right to mount: PostgreSQL would refuse to be root.
NAMESPACE = ("unshare", "--user", "--map-current-user", "--keep-caps", "--mount")
PAUSE_SECONDS = 0.1
START_SECONDS = 60.0
STOP_SECONDS = 30.0


class Disk:
    """A tmpfs that a process holds which does nothing else. ``path`` is where others see it."""

    def __init__(self, holder: Child, folder: Path) -> None:
        self._holder = holder
        self.path = _seen_from_outside(holder, folder)

    @classmethod
    async def start(cls, folder: Path, size_bytes: int) -> Disk:
        holder = Child.start(
            f"a disk on {folder.name}",
            run_on_tmpfs(folder, size_bytes, ["sleep", "infinity"]),
            log_path=folder.with_name(f"{folder.name}-disk.log"),
        )
        disk = cls(holder, folder)
        try:
            await holder.wait_until(disk._is_mounted, START_SECONDS)
        except BaseException:
            holder.kill()
            raise
        return disk

    async def _is_mounted(self) -> bool:
        return self.path.is_mount()

    def close(self) -> None:
        self._holder.kill()


class ConfinedPostgres:
    """The part of LocalPostgres that a stack uses; the same server again after `kill` or `stop`."""

    def __init__(self, keeper: Child, folder: Path, port: int) -> None:
        self._keeper = keeper
        self._folder = folder
        self.port = port
        self.dsn = f"postgresql://sendtrace@127.0.0.1:{port}/sendtrace"
        self.disk = _seen_from_outside(keeper, folder)

    @classmethod
    async def start(cls, folder: Path, size_bytes: int, port: int) -> ConfinedPostgres:
        """Returns when the database answers."""
        _want(folder, "run")
        program = [sys.executable, __file__, str(folder), str(port)]
        keeper = Child.start(
            "PostgreSQL on a small disk",
            run_on_tmpfs(folder, size_bytes, program),
            log_path=folder.with_name("confined.log"),
        )
        started = cls(keeper, folder, port)
        try:
            await keeper.wait_until(started._answers, START_SECONDS)
        except BaseException:
            keeper.kill()
            raise
        return started

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        return int(_pid_file(self._folder).read_text())

    @property
    def running(self) -> bool:
        try:
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    async def start_again(self) -> None:
        _want(self._folder, "run")
        await self._keeper.wait_until(self._answers, START_SECONDS)

    async def stop(self) -> None:
        _want(self._folder, "stop")
        async with asyncio.timeout(STOP_SECONDS):
            while self.running:
                await asyncio.sleep(PAUSE_SECONDS)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone. Its keeper starts no other before `start_again`."""
        _want(self._folder, "stay away")
        process = psutil.Process(self.pid)
        process.kill()
        deadline = time.monotonic() + STOP_SECONDS
        while self.running and time.monotonic() < deadline:
            time.sleep(0.01)

    def close(self) -> None:
        self._keeper.kill()

    async def _answers(self) -> bool:
        """The keeper says so of the one that it started last."""
        return _pid_file(self._folder).exists() and self.running


def run_on_tmpfs(folder: Path, size_bytes: int, command: list[str]) -> list[str]:
    """The command, with a tmpfs of that size on `folder`.

    `sh` and `unshare` replace themselves, so the pid is the command's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    script = 'mount -t tmpfs -o size="$1" tmpfs "$0" && shift && exec "$@"'
    return [*NAMESPACE, "sh", "-c", script, str(folder), str(size_bytes), *command]


def _seen_from_outside(holder: Child, folder: Path) -> Path:
    return Path(f"/proc/{holder.pid}/root") / folder.relative_to("/")


def _wanted(folder: Path) -> Path:
    """Beside the disk: `run`, `stop`, or `stay away` once it is gone."""
    return folder.with_name("confined.wanted")


def _pid_file(folder: Path) -> Path:
    return folder.with_name("confined.pid")


def _want(folder: Path, what: str) -> None:
    _tell(_wanted(folder), what)


def _tell(path: Path, what: str) -> None:
    """The whole of it or nothing: the other side may read just now."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(what)
    partial.replace(path)


async def _keep(folder: Path, port: int) -> None:
    """PostgreSQL may end for want of room; it is started again over the same data."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    postgres: LocalPostgres | None = None
    while not stopping.is_set():
        # In this order: who kills it says before that it is to stay away.
        is_running = postgres is not None and postgres.running
        wanted = _wanted(folder).read_text()
        if wanted == "run" and not is_running:
            try:
                postgres = await LocalPostgres.start(folder / "data", port=port, fsync=False)
                _tell(_pid_file(folder), str(postgres.pid))
            except (LocalStackError, asyncpg.PostgresError, OSError) as error:
                print(error, flush=True)  # no room: the next try may find some
        elif wanted == "stop" and postgres is not None:
            await postgres.stop()
        await asyncio.sleep(PAUSE_SECONDS)
    if postgres is not None:
        await postgres.stop()


if __name__ == "__main__":
    asyncio.run(_keep(Path(sys.argv[1]), int(sys.argv[2])))
