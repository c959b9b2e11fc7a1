"""Prometheus and promtool: unpacked by `make test-all` (tools/prometheus.sh), or on the PATH."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNPACKED = ROOT / "build/all/prometheus/usr/bin"


def program(name: str) -> str:
    found = shutil.which(name, path=f"{UNPACKED}{os.pathsep}{os.environ['PATH']}")
    assert found, f"no {name} here: `make test-all` fetches it (tools/prometheus.sh)"
    return found
