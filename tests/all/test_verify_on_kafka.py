"""tests/integration/test_verify.py on real Kafka, RocksDB and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from sendtrace.runtime.settings import Settings

from fakes.tampering import Kind
from verifying import Stage, assert_equal, assert_found, assert_row_found, faults, on_kafka, played


@pytest.fixture
async def stage(kafka_settings: Settings, postgres_dsn: str, tmp_path: Path) -> Stage:
    return await on_kafka(kafka_settings, postgres_dsn, tmp_path)


async def test_everything_is_equal(stage: Stage, tmp_path: Path) -> None:
    assert_equal(await played(stage, tmp_path, 48, 6.25, "everything"))


@pytest.mark.parametrize("kind", ["drop", "double", "alter"])
async def test_one_record_at_any_stage_is_found(kind: Kind, stage: Stage, tmp_path: Path) -> None:
    planted = faults(kind)
    assert_found(await played(stage, tmp_path, 48, 6.25, "everything", planted), planted)


@pytest.mark.parametrize("kind", ["drop", "alter"])
async def test_one_row_of_the_warehouse_is_found(kind: Kind, stage: Stage, tmp_path: Path) -> None:
    assert_row_found(await played(stage, tmp_path, 60, 5, "quiet-day", row_fault=kind))
