"""What the health routes answer, and that they need nothing of what they tell about."""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace

import aiohttp
import psutil
import pytest
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced
from prometheus_client import CollectorRegistry

from sendtrace.runtime import service
from sendtrace.runtime.service import Health, health_server


async def test_livez_says_what_is_stuck_and_readyz_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000.0
    monkeypatch.setattr(service, "time", SimpleNamespace(monotonic=lambda: now))
    health = Health(stuck_seconds=10)
    health.set_ready()
    async with (
        health_server(health, CollectorRegistry(), "127.0.0.1", 0) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):

        async def get(path: str) -> tuple[int, str]:
            async with http.get(path) as answer:
                return answer.status, await answer.text()

        health.moved("the loop")
        assert await get("/livez") == (200, "ok")
        now += 11
        assert await get("/livez") == (503, "the loop has not moved for 10 s")
        assert await get("/readyz") == (200, "ok")
        _, page = await get("/metrics")
        [started] = re.findall(r"^process_start_time_seconds (\S+)$", page, re.M)
        assert float(started) == pytest.approx(psutil.Process().create_time(), abs=1)
        health.excuse()
        assert await get("/livez") == (200, "ok")
        now += 11
        health.at_rest("the loop")
        assert await get("/livez") == (200, "ok")
        health.live = False
        assert (await get("/livez"))[0] == 503


def test_a_fencing_that_nobody_waits_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()

    def leave_unheard(error: Exception) -> None:
        loop.create_future().set_exception(error)

    with caplog.at_level("ERROR", "asyncio"):
        leave_unheard(ProducerFenced())
        leave_unheard(InvalidProducerEpoch())
        assert caplog.records == []
        leave_unheard(ValueError("of ours"))
        assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == [
            "of ours"
        ]
    loop.close()
