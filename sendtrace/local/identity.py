"""As whom PostgreSQL runs: it refuses root.

Not root: as ourselves. Root: as an unprivileged user that owns the cluster; and where that user
cannot reach the binaries or the data (a venv or a folder below a 0700 folder such as root's
home), in a user namespace, where root has another number and no power beyond owning its files.
Which one works is tried, not guessed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sendtrace.local.process import Identity, LocalStackError

# The first that exists; initdb wants a name for its user.
UNPRIVILEGED_NAMES = ("postgres", "nobody")
TRIAL_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Runner:
    """How to start a program: as `identity` (None: as we are) and behind `prefix`."""

    identity: Identity | None = None
    prefix: tuple[str, ...] = ()

    def give(self, folder: Path) -> None:
        """Make the user that the program runs as the owner of `folder` and all in it."""
        if os.geteuid() != 0:
            return
        owner = self.identity or Identity(os.geteuid(), os.getegid())
        for parent, _, names in os.walk(folder):
            for path in (parent, *(os.path.join(parent, name) for name in names)):  # noqa: PTH118
                if os.lstat(path).st_uid != owner.uid:
                    os.lchown(path, owner.uid, owner.gid)

    def can_use(self, program: Path, folder: Path) -> bool:
        """Try it: run `program --version` with a file made and removed in `folder`."""
        script = '"$0" --version && : > "$1/trial" && rm "$1/trial"'
        identity = self.identity
        try:
            done = subprocess.run(
                [*self.prefix, "/bin/sh", "-c", script, str(program), str(folder)],
                user=identity.uid if identity else None,
                group=identity.gid if identity else None,
                extra_groups=[] if identity else None,
                cwd="/",
                capture_output=True,
                timeout=TRIAL_TIMEOUT_SECONDS,
            )
        except OSError:  # no such program, or no right to change the user
            return False
        return done.returncode == 0


def choose_runner(program: Path, data_dir: Path) -> Runner:
    """A way to run `program` with its files below `data_dir`; LocalStackError if there is none."""
    if os.geteuid() != 0:
        return Runner()
    candidates = [Runner(_unprivileged())]
    if unshare := shutil.which("unshare"):
        candidates.append(Runner(prefix=(unshare, "--user")))
    trial = data_dir / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    trial.mkdir(mode=0o700)
    try:
        for runner in candidates:
            try:
                runner.give(trial)
            except OSError:  # in a user namespace with few users that one may not exist
                continue
            if runner.can_use(program, trial):
                return runner
    finally:
        shutil.rmtree(trial)
    raise LocalStackError(
        f"PostgreSQL does not run as root, and no other user can reach {program} and {data_dir}:"
        " run as an ordinary user, or put both outside of private folders."
    )


def _unprivileged() -> Identity:
    for name in UNPRIVILEGED_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity(entry.pw_uid, entry.pw_gid)
    return Identity(65534, 65534)
