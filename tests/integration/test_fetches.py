"""Fetches from the source table on the real parts: when asked, and by the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.integration.file_service import Service, insert, on_topic, stored
from tests.integration.pipeline import Pipeline


async def test_fetches_without_a_poller_and_the_poller_that_comes_later(service: Service) -> None:
    flow = service.flow
    flow.start("agents", "sink")
    service.start()
    assert service.status("POST", "/fetch-from-clickhouse") == 404
    insert(flow, 1, 100, datetime.now(UTC) - timedelta(days=2))
    some = service.told("POST", "/fetch-from-clickhouse", params={"days": 7, "limit": 10})
    assert some["rows_fetched"] == 10
    assert service.done(some["job_id"])["published"] == 10
    only = service.told("POST", "/fetch-from-clickhouse", params={"process": False})
    assert (only["rows_fetched"], only["job_id"]) == (100, None)
    first = service.told("POST", "/fetch-from-clickhouse")
    second = service.told("POST", "/fetch-from-clickhouse")
    assert service.done(first["job_id"])["published"] == 90
    assert service.done(second["job_id"])["published"] == 0
    assert len(service.result(first["job_id"])) == 100

    # A poller that reads from the table's beginning leaves out what was fetched.
    flow.start("poller")
    insert(flow, 101, 20, datetime.now(UTC))
    flow.wait(lambda: len(stored(flow)) == 120, "the new rows are labelled")
    assert stored(flow) == dict.fromkeys(map(str, range(1, 121)), 1)
    assert await on_topic(flow, "rows") == dict.fromkeys(map(str, range(101, 121)), 1)
    third = service.told("POST", "/fetch-from-clickhouse")
    assert third["rows_fetched"] == 120
    assert service.done(third["job_id"])["published"] == 0


async def test_the_fetcher_catches_up_beside_the_poller(service: Service) -> None:
    flow = service.flow
    flow.start("agents", "sink", "poller", POLL_LOOKBACK_SECONDS="5")
    insert(flow, 1, 50, datetime.now(UTC) - timedelta(hours=1))
    flow.wait(lambda: len(stored(flow)) == 50, "the poller's rows are labelled")
    often = {"FETCH_INTERVAL_HOURS": "0.001", "POLL_LOOKBACK_SECONDS": "5"}
    active, standby = flow.start("fetcher", "fetcher", **often)
    flow.wait(lambda: len(exports(flow)) >= 2, "two fetches")
    for one in (active, standby):
        one.kill()
        one.wait()
    # Rows that come too late for the poller's window, while nobody fetches.
    insert(flow, 101, 30, datetime.now(UTC) - timedelta(minutes=90))
    seen = len(exports(flow))
    flow.start("fetcher", **often)
    flow.wait(lambda: len(stored(flow)) == 80, "late rows are labelled")
    flow.wait(lambda: len(exports(flow)) >= seen + 3, "more fetches")
    assert set(stored(flow).values()) == {1}
    assert await on_topic(flow, "replay") == dict.fromkeys(map(str, range(101, 131)), 1)
    assert set((await on_topic(flow, "rows")).values()) == {1}


def exports(flow: Pipeline) -> list[Path]:
    return list((flow.folder / "data" / "exports").glob("*.csv"))
