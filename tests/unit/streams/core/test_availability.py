"""Waiting for a dependency is said once, with the setting's name, and ends when it is there."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from streams.core import availability as waiting
from streams.core.availability import until_available
from streams.core.errors import AccessError, RefusedError, UnavailableError


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_FIRST", 0.0)
    monkeypatch.setattr(waiting, "_LONGEST", 0.0)


async def test_said_once_and_once_more_when_the_reason_changes() -> None:
    failures: list[Exception] = [
        *[UnavailableError("nobody answers", setting="CLICKHOUSE_HOST")] * 5,
        *[AccessError("wrong password", setting="CLICKHOUSE_PASSWORD", fix="check it")] * 5,
    ]

    async def attempt() -> str:
        if failures:
            raise failures.pop(0)
        return "there"

    with capture_logs() as said:
        assert await until_available("ClickHouse", attempt) == "there"
    warned = [entry["setting"] for entry in said if entry["log_level"] == "warning"]
    assert warned == ["CLICKHOUSE_HOST", "CLICKHOUSE_PASSWORD"]
    assert said[-1]["event"] == "ClickHouse is there"


async def test_nothing_is_said_of_what_is_there() -> None:
    async def attempt() -> int:
        return 1

    with capture_logs() as said:
        assert await until_available("Kafka", attempt) == 1
    assert said == []


async def test_what_never_heals_is_not_waited_for() -> None:
    async def attempt() -> None:
        raise RefusedError("never")

    with pytest.raises(RefusedError):
        await until_available("Kafka", attempt)
