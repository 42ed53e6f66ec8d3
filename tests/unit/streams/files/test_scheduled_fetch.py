"""Where a scheduled fetch begins to read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streams.core.environment import load
from streams.core.records import Outgoing
from streams.core.times import micros_of
from streams.core.topics import Topics
from streams.files import scheduled_fetch as module
from streams.files.fetch import Fetched
from streams.files.scheduled_fetch import Fetching, Watermark

DAY = 86_400_000_000


class Sent:
    async def send(self, message: Outgoing) -> int:
        return 0


@pytest.mark.parametrize("coarse", [0, DAY])
async def test_it_begins_where_rows_may_still_have_come_after_the_last_fetch(
    coarse: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of a date has the time of its day's beginning, whenever it comes."""
    now = datetime.now(UTC)
    until = micros_of(now - timedelta(hours=1))
    asked: list[Any] = []

    async def export(settings: Any, *, days: int, limit: int | None, door: None) -> Fetched:
        return Fetched(3, Path("rows.csv"), micros_of(now), micros_of(now), None, coarse)

    async def fetch_job(context: Any, fetched: Fetched, *, limit: int | None, since: int | None) -> Any:
        asked.append(since)
        return SimpleNamespace(id="job", until=micros_of(now), expected=3)

    async def begin(context: Any, job: Any) -> Any:
        return job

    for replaced in (export, fetch_job, begin):
        monkeypatch.setattr(module, replaced.__name__, replaced)
    told = {"fetches": 0, "rows": 0}
    settings = load({"POLL_LOOKBACK_SECONDS": "600", "KAFKA_BOOTSTRAP_SERVERS": "k:1"}, None)
    keeper: Any = SimpleNamespace(context=None, door=None)
    fetching = Fetching(settings, Topics("t"), keeper, keeper, Sent(), told)  # type: ignore[arg-type]
    await fetching.fetch(Watermark(until=until, at=now))
    assert asked == [until - 600_000_000 - coarse]
