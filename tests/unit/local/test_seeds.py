"""examples/seeds.sh: by the token path if there is a token, else by the plain one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from sendtrace.local import secrets

SCRIPT = Path(__file__).parents[3] / "examples" / "seeds.sh"


def urls(data_dir: Path, folder: Path) -> list[str]:
    """What the script asks curl for, without a stack."""
    log = folder / "urls"
    for name in ("curl", "sleep", "python"):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\nfor last; do :; done\nprintf "%s %s\\n" {name} "$last" >> {log}\n'
        )
        program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHON": str(folder / "python"),
        "PORT_BASE": "500",
        "SENDTRACE_DATA_DIR": str(data_dir),
    }
    # The last line looks for figures that are not there: only that may fail.
    done = subprocess.run(["bash", str(SCRIPT)], env=environment, capture_output=True, text=True)
    assert "Totals of the exporter" in done.stdout, done.stderr
    called = [line.partition(" ")[2] for line in log.read_text().splitlines() if "curl" in line]
    return [url.partition("?")[0] for url in called if "/webhooks" in url]


def test_through_the_token_path(tmp_path: Path) -> None:
    secrets.make(tmp_path)
    found = urls(tmp_path, tmp_path)
    root = f"http://127.0.0.1:8580/webhooks/{secrets.local_token(tmp_path)}"
    assert len(found) == 8
    assert set(found) == {f"{root}/{kind}" for kind in ("status", "delivery-receipt", "inbound")}


def test_without_a_token_through_the_plain_path(tmp_path: Path) -> None:
    root = "http://127.0.0.1:8580/webhooks"
    found = urls(tmp_path / "nothing", tmp_path)
    assert set(found) == {f"{root}/{kind}" for kind in ("status", "delivery-receipt", "inbound")}
