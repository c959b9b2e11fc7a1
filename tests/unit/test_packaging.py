"""The wheel: built, installed into an empty folder, and exactly our packages in it."""

import json
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"ingest", "processors", "schemas", "sendtrace", "sinks"}
# Data that the code reads at run time: a wheel without it would fail only in production.
DATA_SUFFIXES = {".sql", ".sha256"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=ROOT, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    [built] = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--no-compile", "--target", str(target), str(wheel)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return target


def test_the_packages_belong_to_this_distribution(installed: Path) -> None:
    # As importlib.metadata.packages_distributions() tells, but of this folder alone.
    code = (
        "import importlib.metadata, json;"
        "print(json.dumps(importlib.metadata.packages_distributions()))"
    )
    told = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = [{str(installed)!r}]; {code}"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    owners = json.loads(told)
    # A clash with a library of the same top-level name would show as a second owner.
    assert {name: set(owners[name]) for name in PACKAGES} == {
        name: {"sendtrace"} for name in PACKAGES
    }


def test_nothing_else_is_in_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES


def test_every_module_and_data_file_of_the_tree_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in {".py", *DATA_SUFFIXES}
    }
    assert wanted <= names


def test_it_must_not_be_published_by_accident(installed: Path) -> None:
    [found] = distributions(name="sendtrace", path=[str(installed)])
    assert "Private :: Do Not Upload" in (found.metadata.get_all("Classifier") or [])
