"""A million open messages in one joiner: what each takes of memory, and how soon it is back.

The floors of the design, with all that runs in production: Kafka, RocksDB, the process. It takes
some two minutes; `make bench` prints the same figures.
"""

from __future__ import annotations

import msgspec
import pytest

from bench.open_messages import measure_apart

BYTES_A_MESSAGE_LIMIT = 500
READY_LIMIT_SECONDS = 5.0
# For the slower of two restarts: a machine that others use takes many times what it needs.
SLOW_READY_LIMIT_SECONDS = 20.0
OUTPUT_LIMIT_SECONDS = 15.0
# Restoring reads everything: no floor of the design, but a node that is lost must come back.
RESTORED_A_SECOND_FLOOR = 10_000


@pytest.mark.timeout(900)
async def test_a_million_open_messages() -> None:
    figures = await measure_apart()
    print(msgspec.json.format(msgspec.json.encode(figures), indent=2).decode())
    restarts = (figures.after_sigterm, figures.after_sigkill, figures.without_state)
    settled = [figures.filled_bytes, *(restart.settled_bytes for restart in restarts)]
    assert max(map(figures.bytes_a_message, settled)) < BYTES_A_MESSAGE_LIMIT
    ready_seconds = (
        figures.stop_seconds + figures.after_sigterm.seconds_to_ready,
        figures.after_sigkill.seconds_to_ready,
    )
    assert min(ready_seconds) < READY_LIMIT_SECONDS
    assert max(ready_seconds) < SLOW_READY_LIMIT_SECONDS
    for restart in (figures.after_sigterm, figures.after_sigkill):
        assert restart.seconds_to_output < OUTPUT_LIMIT_SECONDS
    assert figures.restored_a_second > RESTORED_A_SECOND_FLOOR
