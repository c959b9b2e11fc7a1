"""Kafka's jars: exactly those of `jars.sha256`, in the user's cache, each checked at every start.

The list is the whole class path, resolved once with jgo and committed, so a start resolves
nothing and a complete cache needs no network. Which repositories are asked is jgo's matter: its
settings file may name more, and the local Maven repository (`M2_REPO`) is looked into first.
slf4j-simple is in the list because Kafka without a logging binding fails mutely.

`python -m sendtrace.local.jars <coordinate>...` prints a new list.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from filelock import FileLock, Timeout
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import Artifact, MavenContext
from platformdirs import user_cache_path

from sendtrace.local.datadir import explained
from sendtrace.local.process import LocalStackError

# done, total, text
OnProgress = Callable[[int, int, str], None]
# Another process may be downloading 45 MB on a slow line; after this it is more likely stuck.
LOCK_TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Pin:
    """One jar of the class path and the only content it may have."""

    sha256: str
    coordinate: str  # group:artifact:version

    @property
    def filename(self) -> str:
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def read_pins() -> list[Pin]:
    text = files("sendtrace.local").joinpath("jars.sha256").read_text()
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return [Pin(sha256, coordinate) for sha256, coordinate in lines]


async def ensure_jars(
    on_progress: OnProgress | None = None,
    *,
    cache_dir: Path | None = None,
    pins: Sequence[Pin] | None = None,
) -> list[Path]:
    """The class path, in the list's order; downloads what is missing or damaged in the cache."""
    loop = asyncio.get_running_loop()

    def tell(done: int, total: int, text: str) -> None:
        if on_progress:
            loop.call_soon_threadsafe(on_progress, done, total, text)

    folder = (cache_dir or user_cache_path("sendtrace")) / "jars"
    return await asyncio.to_thread(_ensure, folder, pins or read_pins(), tell)


def _ensure(folder: Path, pins: Sequence[Pin], tell: OnProgress) -> list[Path]:
    paths = [folder / pin.filename for pin in pins]
    if all(_is_right(pin, path) for pin, path in zip(pins, paths, strict=True)):
        return paths
    with explained("store Kafka's jars", folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", is_singleton=False)
        try:
            held = lock.acquire(timeout=LOCK_TIMEOUT_SECONDS)
        except Timeout as error:
            raise LocalStackError(
                f"Another process has been downloading to {folder} for {LOCK_TIMEOUT_SECONDS} s:"
                " end it and start again."
            ) from error
        with held:  # and not `with lock`: that would take it twice and give it back once
            _fetch_missing(folder, pins, tell)
    return paths


def _fetch_missing(folder: Path, pins: Sequence[Pin], tell: OnProgress) -> None:
    """Under the lock. Each jar becomes visible under its name only whole and checked."""
    partial = folder / "partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    try:
        for done, pin in enumerate(pins):
            path = folder / pin.filename
            if not _is_right(pin, path):
                tell(done, len(pins), pin.filename)
                _fetch(pin, partial).replace(path)
        tell(len(pins), len(pins), "Kafka's jars are complete")
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fetch(pin: Pin, partial: Path) -> Path:
    """A checked copy of the jar below `partial`."""
    settings = GlobalSettings.load()
    own = partial / pin.filename
    partial.mkdir(parents=True, exist_ok=True)
    at_hand = _artifact(pin, MavenContext(repo_cache=settings.repo_cache)).cached_path
    # What others left in the local Maven repository may be half a file: used only when right.
    if at_hand and _is_right(pin, at_hand):
        shutil.copyfile(at_hand, own)
        return own
    remote_repos = {**settings.repositories, "central": MAVEN_CENTRAL_URL}
    try:
        context = MavenContext(repo_cache=partial, remote_repos=remote_repos)
        _artifact(pin, context).resolve().replace(own)
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
        raise LocalStackError(
            f"{pin.filename} could not be downloaded ({error}): the first start needs the network"
            " (or a jgo settings file that names your Maven repository)."
        ) from error
    if not _is_right(pin, own):
        raise LocalStackError(
            f"{pin.filename} has the wrong sha256 ({_sha256(own)}, not {pin.sha256}): it is not"
            " the file that was released; look at the Maven repository it came from."
        )
    return own


def _artifact(pin: Pin, context: MavenContext) -> Artifact:
    group, artifact, version = pin.coordinate.split(":")
    return context.project(group, artifact).at_version(version).artifact()


def _is_right(pin: Pin, path: Path) -> bool:
    return path.is_file() and _sha256(path) == pin.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(coordinates: Sequence[str]) -> None:
    """Resolve `coordinates` with all they need at run time, and print the list to commit."""
    context = MavenContext()
    wanted = [context.create_dependency(coordinate) for coordinate in coordinates]
    inputs, transitive = context.resolver.resolve(wanted)
    needed = [*inputs, *(d for d in transitive if d.scope in ("compile", "runtime"))]
    for artifact in sorted({d.artifact for d in needed}, key=str):
        coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
        sys.stdout.write(f"{_sha256(artifact.resolve())}  {coordinate}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
