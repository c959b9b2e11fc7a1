"""Only jars with the committed checksum reach the class path, whatever the repository says."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sendtrace.local.jars import Pin, ensure_jars, read_pins
from sendtrace.local.process import LocalStackError

CONTENT = b"a jar"
PIN = Pin(hashlib.sha256(CONTENT).hexdigest(), "org.example:thing:1.0")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local Maven repository with the jar; the network ends at a closed port."""
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    monkeypatch.setenv("JGO_CONFIG_FILE", str(tmp_path / "jgo.conf"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    jar = tmp_path / "m2/org/example/thing/1.0/thing-1.0.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(CONTENT)
    return jar


def _replace(jar: Path, content: bytes | None) -> None:
    jar.unlink()
    if content is not None:
        _write(jar, content)


def _write(jar: Path, content: bytes) -> None:
    jar.write_bytes(content)


async def test_a_jar_is_taken_over_once_and_then_found_offline(
    repository: Path, tmp_path: Path
) -> None:
    said: list[tuple[int, int, str]] = []
    paths = await ensure_jars(lambda *words: said.append(words), cache_dir=tmp_path, pins=[PIN])
    assert [path.read_bytes() for path in paths] == [CONTENT]
    assert said[0] == (0, 1, "thing-1.0.jar")
    assert said[-1][:2] == (1, 1)
    _replace(repository, None)
    said.clear()
    assert await ensure_jars(lambda *w: said.append(w), cache_dir=tmp_path, pins=[PIN]) == paths
    assert said == []
    assert sorted(path.name for path in paths[0].parent.iterdir()) in (
        ["lock", "thing-1.0.jar"],
        ["thing-1.0.jar"],
    )


async def test_a_damaged_jar_in_the_cache_is_replaced(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "thing-1.0.jar").write_bytes(b"half a j")
    (path,) = await ensure_jars(cache_dir=tmp_path, pins=[PIN])
    assert path.read_bytes() == CONTENT


async def test_a_wrong_jar_in_the_local_repository_is_not_used(
    repository: Path, tmp_path: Path
) -> None:
    _replace(repository, b"half a j")
    with pytest.raises(LocalStackError, match=r"thing-1\.0\.jar could not be downloaded"):
        await ensure_jars(cache_dir=tmp_path, pins=[PIN])
    assert not (tmp_path / "jars" / "thing-1.0.jar").exists()
    assert not (tmp_path / "jars" / "partial").exists()


async def test_a_wrong_download_is_refused_by_name(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(_resolver: object, artifact: object) -> Path:
        path = tmp_path / "jars" / "partial" / "downloaded"
        path.write_bytes(b"another jar")
        return path

    _replace(repository, None)
    monkeypatch.setattr("jgo.maven.PythonResolver.download", download)
    with pytest.raises(LocalStackError, match=r"thing-1\.0\.jar has the wrong sha256"):
        await ensure_jars(cache_dir=tmp_path, pins=[PIN])
    assert not (tmp_path / "jars" / "thing-1.0.jar").exists()


async def test_a_failed_download_gives_the_lock_back(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure, kept as it is in a traceback, must not make the next try wait."""
    monkeypatch.setattr("sendtrace.local.jars.LOCK_TIMEOUT_SECONDS", 0.1)
    _replace(repository, None)
    with pytest.raises(LocalStackError, match="could not be downloaded") as kept:
        await ensure_jars(cache_dir=tmp_path, pins=[PIN])
    _write(repository, CONTENT)
    assert len(await ensure_jars(cache_dir=tmp_path, pins=[PIN])) == 1
    assert kept.value


@pytest.mark.usefixtures("repository")
def test_two_processes_at_once(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path;"
        "from sendtrace.local.jars import Pin, ensure_jars;"
        f"asyncio.run(ensure_jars(cache_dir=Path({str(tmp_path)!r}), pins=[{PIN!r}]))"
    )
    both = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert (tmp_path / "jars" / "thing-1.0.jar").read_bytes() == CONTENT


def test_the_committed_list_is_whole() -> None:
    pins = read_pins()
    names = [pin.filename for pin in pins]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[0-9a-f]{64}", pin.sha256) for pin in pins)
    assert any(re.fullmatch(r"kafka_2\.13-4\.3\.\d+\.jar", name) for name in names)
    assert any(name.startswith("slf4j-simple-") for name in names)
