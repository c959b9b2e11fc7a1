"""Publishes the values of the topics as they are now: from here on, nothing of them may change.

    python tools/published.py

Run it when fields were added and are to be kept for good, at the latest before a release.
`tests/unit/schemas/test_published.py` refuses a change that breaks a reader of what stands there.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from schemas.asyncapi import VALUES

FOLDER = Path(__file__).parents[1] / "tests/unit/schemas/published"


def main() -> None:
    for value in VALUES:
        text = json.dumps(msgspec.json.schema(value), indent=1) + "\n"
        (FOLDER / f"{value.__name__}.json").write_text(text)


if __name__ == "__main__":
    main()
