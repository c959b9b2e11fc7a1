"""Writes the settings that the chart takes, with types and bounds, into its values.schema.json.

    python tools/helm_settings.py

So a wrong value is refused by `helm install`, before a process refuses to start for it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from sendtrace.runtime.settings import Settings

SCHEMA = Path(__file__).parents[1] / "deploy/helm/sendtrace/values.schema.json"
# Set by the chart itself: addresses, folders, files from Secrets, and ports (a pod has its own).
OF_THE_CHART = {
    "kafka_bootstrap",
    "postgres_dsn",
    "bind_address",
    "data_dir",
    "accounts_file",
    "sends_token_file",
    "port_base",
}


def settable() -> dict[str, Any]:
    """The JSON Schema of each setting that stands under `settings` in the values."""
    properties: dict[str, Any] = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    return {
        name: schema
        for name, schema in properties.items()
        if name not in OF_THE_CHART and not name.endswith("_port")
    }


def rendered(text: str) -> str:
    """The schema with the settings as they are now."""
    schema = json.loads(text)
    schema["properties"]["settings"]["properties"] = settable()
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(rendered(SCHEMA.read_text()))
