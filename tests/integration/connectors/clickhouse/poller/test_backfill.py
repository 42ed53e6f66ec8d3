"""Old rows against the real engine: cut off behind any page and read on, each open row comes once."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.poller.backfill import OldRows
from connectors.clickhouse.poller.settled_rows import PassingRows
from connectors.clickhouse.source import slices, table
from streams.core.codec import encode
from streams.core.messages import Row
from streams.core.settings import Settings
from streams.core.times import micros_of
from tests.integration.connectors.clickhouse.engine import Database
from tests.unit.connectors.clickhouse.sink.fakes import TOPICS

DAY = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 600


def old_row(number: int) -> Row:
    """Two hundred rows a day, of whose times only the day is known."""
    at = DAY + timedelta(days=number // 200)
    return Row(row_id=str(number), text=f"question {number % 7}", created_at=at, polled_at=DAY)


async def given_up(client: ClickHouseClient, settings: Settings, rows: list[Row]) -> None:
    columns = [
        [row.row_id for row in rows],
        [encode(row) for row in rows],
        ["label"] * len(rows),
        ["invalid-answer"] * len(rows),
        [DAY] * len(rows),
        list(range(len(rows))),
    ]
    names = ["row_id", "payload", "step", "reason", "failed_at", "_offset"]
    await client.insert("dead_letters", names, columns, database=settings.result_database)


async def labelled(client: ClickHouseClient, settings: Settings, rows: list[Row]) -> None:
    columns = [
        [row.row_id for row in rows],
        [row.text for row in rows],
        [row.created_at for row in rows],
        ["a"] * len(rows),
        list(range(len(rows))),
    ]
    names = ["row_id", "text", "created_at", "label", "_offset"]
    await client.insert("logs_labeled", names, columns, database=settings.result_database)


@pytest.mark.parametrize("key", ["id", "created_at"])
async def test_a_page_ends_in_the_middle_of_a_moment(
    database: Database, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(table, "PAGE_ROWS", 30)
    monkeypatch.setattr(slices, "SLICE_BYTES", 20_000)
    client, settings = database
    await client.command(
        f"CREATE TABLE {settings.clickhouse_database}.logs (id UInt64, query_text String, created_at Date) "
        f"ENGINE = MergeTree ORDER BY {key}"
    )
    every = [old_row(number) for number in range(ROWS)]
    columns = [
        [int(row.row_id) for row in every],
        [row.text for row in every],
        [row.created_at.date() for row in every],
    ]
    names = ["id", "query_text", "created_at"]
    await client.insert("logs", names, columns, database=settings.clickhouse_database)
    await given_up(client, settings, every[::10])
    # Rows of a file that have the time of the day as well are many, and nobody's business here.
    of_a_file = [row.model_copy(update={"row_id": f"upload:a:{row.row_id}", "text": "x"}) for row in every]
    await labelled(client, settings, [*every[1::10], *of_a_file])
    passing = PassingRows()
    for row in every[2::10]:
        passing.add(row.row_id, micros_of(row.created_at), row.text)
    wanted = [row.row_id for number, row in enumerate(every) if number % 10 > 2]

    found: Counter[str] = Counter()
    after: int | None = None
    pages, most = 0, 0
    while True:
        old = OldRows(client, settings, TOPICS, since=None, until=micros_of(DAY + timedelta(days=9)))
        async for rows, letters, reached in old.pages(after, passing):
            assert not letters
            pages, most = pages + 1, max(most, len(rows))
            fresh = [row for row, *_ in rows if not found[row.row_id]]
            found.update(row.row_id for row in fresh)
            await labelled(client, settings, fresh)
            assert after is None or reached >= after
            if after is None or reached > after:
                after = reached
                break  # cut off, whenever something was reached
        else:
            break
    assert found == Counter(wanted)
    assert pages > ROWS // 30
    assert most <= 30
