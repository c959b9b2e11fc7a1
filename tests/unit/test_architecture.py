"""Who may import whom: the contracts hold, and each of them turns red when it is broken.

A contract that cannot fail protects nothing, so a violation of each is planted in a copy.
"""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("ingest", "processors", "schemas", "sendtrace", "sinks")
CONTRACTS = [
    contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
]
LAYERS, PURE, SIMULATOR = "Layers", "Pure rooms", "The simulator"
PLANTED = [
    (LAYERS, "schemas/planted.py", "import sendtrace.runtime.settings"),
    (LAYERS, "sendtrace/runtime/planted.py", "import sinks.exporter"),
    (LAYERS, "sinks/planted.py", "import processors.wiring"),
    (LAYERS, "processors/planted.py", "import ingest.app"),
    (LAYERS, "ingest/planted.py", "import sendtrace.simulator.traffic"),
    (LAYERS, "sendtrace/simulator/planted.py", "import sendtrace.local.stack"),
    (LAYERS, "sendtrace/local/planted.py", "import sendtrace.cli"),
    (LAYERS, "sinks/planted.py", "import sendtrace.replay.run"),
    (LAYERS, "sendtrace/explain/planted.py", "import sendtrace.forget"),
    (PURE, "schemas/planted.py", "import asyncio"),
    (PURE, "schemas/vonage/planted.py", "import time"),
    (PURE, "processors/join/planted.py", "import aiokafka"),
    (PURE, "processors/join/planted.py", "import processors.wiring"),
    (SIMULATOR, "sendtrace/simulator/planted.py", "from schemas.vonage import decode"),
]


def lint_imports(root: Path) -> tuple[int, str]:
    result = subprocess.run(
        # The copy's own packages first, wherever an installed one may be.
        [sys.executable, "-c", "import sys; sys.path.insert(0, '.');"
         "from importlinter.cli import lint_imports_command; lint_imports_command()",
         "--no-cache"],
        cwd=root, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return result.returncode, " ".join(result.stdout.split())


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted")
    shutil.copy(ROOT / "pyproject.toml", root)
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return root


def test_the_contracts_hold() -> None:
    code, output = lint_imports(ROOT)
    assert code == 0, output
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in output


@pytest.mark.parametrize(("contract", "path", "violation"), PLANTED)
def test_a_planted_violation_turns_its_contract_red(
    copy: Path, contract: str, path: str, violation: str
) -> None:
    planted = copy / path
    planted.write_text(f"{violation}\n")
    try:
        code, output = lint_imports(copy)
    finally:
        planted.unlink()
    [name] = [name for name in CONTRACTS if name.startswith(contract)]
    assert code == 1, output
    assert f"{name} BROKEN" in output


def test_every_contract_has_a_planted_violation() -> None:
    assert all(any(name.startswith(contract) for contract, _, _ in PLANTED) for name in CONTRACTS)


@pytest.mark.parametrize(
    ("path", "is_shell"),
    [
        ("schemas/planted.py", False),
        ("schemas/vonage/planted.py", False),
        ("processors/join/planted.py", False),
        ("sinks/planted.py", True),
        ("sendtrace/runtime/planted.py", True),
    ],
)
def test_only_shells_may_read_the_clock(copy: Path, path: str, is_shell: bool) -> None:
    planted = copy / path
    planted.write_text("import time\n\nNOW = time.time()\n")
    try:
        result = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251", path],
            cwd=copy, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        planted.unlink()
    assert (result.returncode == 0) == is_shell
    assert ("Time is an input" in result.stdout) != is_shell
