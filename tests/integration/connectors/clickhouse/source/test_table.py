"""The source table against the real engine: names, types, zones, ties and pages."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.source import table as module
from connectors.clickhouse.source.table import SourceRow, SourceTable
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from streams.core.times import micros_of, moment

START = datetime(2026, 3, 29, 0, 59, 58, tzinfo=UTC)  # two seconds before Europe's clocks change


async def make(client: ClickHouseClient, db: str, columns: str, **settings: Any) -> SourceTable:
    await client.command(f"CREATE TABLE {db}.logs ({columns}) ENGINE = MergeTree ORDER BY tuple()")
    return SourceTable(client, Settings(clickhouse_database=db, **settings))


async def all_rows(table: SourceTable, since: int | None = None, until: int | None = None) -> list[SourceRow]:
    return [row async for page in table.pages(since, until) for row in page]


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("DateTime", timedelta(seconds=1)),
        ("DateTime('Europe/Moscow')", timedelta(seconds=1)),
        ("Nullable(DateTime('Asia/Kathmandu'))", timedelta(seconds=1)),
        ("DateTime64(3, 'Europe/Berlin')", timedelta(milliseconds=1)),
        ("DateTime64(6)", timedelta(microseconds=1)),
        ("Nullable(DateTime64(9, 'America/New_York'))", timedelta(microseconds=1)),
    ],
)
async def test_every_kind_of_time_is_read_to_its_own_precision(
    client: ClickHouseClient, db: str, kind: str, step: timedelta
) -> None:
    table = await make(client, db, f"id UInt64, query_text String, created_at {kind}")
    times = [START + step * at for at in range(6)]
    await client.insert(
        "logs", ["id", "query_text", "created_at"], [[9, 8, 7, 6, 5, 4], ["text"] * 6, times], database=db
    )
    rows = await all_rows(table)
    assert [moment(row.micros) for row in rows] == times
    assert [row.id for row in rows] == [b"9", b"8", b"7", b"6", b"5", b"4"]
    since, until = micros_of(times[2]), micros_of(times[4])
    assert [row.id for row in await all_rows(table, since)] == [b"7", b"6", b"5", b"4"]
    assert [row.id for row in await all_rows(table, since, until)] == [b"7", b"6"]
    assert [row.id for row in await all_rows(table, None, until)] == [b"9", b"8", b"7", b"6"]
    counted = await table.counts(micros_of(times[0]), micros_of(times[-1]) + 1)
    assert sum(counted.values()) == 6


async def test_the_ends_of_what_a_datetime_holds(client: ClickHouseClient, db: str) -> None:
    table = await make(client, db, "id UInt64, query_text String, created_at DateTime('UTC')")
    await client.command(f"INSERT INTO {db}.logs VALUES (1, 'a', 0), (2, 'b', 4294967295)")
    last = 4294967295 * 1_000_000
    assert [row.id for row in await all_rows(table, -600_000_000)] == [b"1", b"2"]
    assert [row.id for row in await all_rows(table, -600_000_000, last + 1)] == [b"1", b"2"]
    assert [row.id for row in await all_rows(table, last)] == [b"2"]


async def test_columns_have_any_names_and_may_be_missing(client: ClickHouseClient, db: str) -> None:
    table = await make(
        client,
        db,
        "`ts` DateTime64(3, 'Europe/Moscow'), `Текст запроса` LowCardinality(Nullable(String)), "
        "uid UInt32, `no` UUID",
        clickhouse_timestamp_column="ts",
        clickhouse_text_column="Текст запроса",
        clickhouse_user_id_column="uid",
        clickhouse_id_column="no",
    )
    await client.command(
        f"INSERT INTO {db}.logs VALUES "
        "('2026-03-29 12:00:00.123', 'привет', 7, '61f0c404-5cb3-11e7-907b-a6006ad3dba0'), "
        "('2026-03-29 12:00:00.124', NULL, 8, '61f0c404-5cb3-11e7-907b-a6006ad3dba1')"
    )
    first, second = await all_rows(table)
    assert moment(first.micros) == datetime(2026, 3, 29, 9, 0, 0, 123000, tzinfo=UTC)
    assert (first.text, first.user, first.id) == (
        "привет".encode(),
        b"7",
        b"61f0c404-5cb3-11e7-907b-a6006ad3dba0",
    )
    assert (first.session, first.domain) == (None, None)
    assert second.text is None


async def test_rows_of_one_moment_are_all_read_across_pages(
    client: ClickHouseClient, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 50)
    table = await make(client, db, "id UInt64, query_text String, created_at DateTime")
    ids = [(at * 7919) % 1000 for at in range(1000)]
    times = [START + timedelta(seconds=0 if at < 700 else at % 5) for at in range(1000)]
    await client.insert(
        "logs", ["id", "query_text", "created_at"], [ids, ["text"] * 1000, times], database=db
    )
    pages = [page async for page in table.pages(None)]
    rows = [row for page in pages for row in page]
    assert sorted(int(row.id or b"") for row in rows) == list(range(1000))
    assert max(map(len, pages)) <= 60
    assert [(row.micros, row.tie) for row in rows] == sorted((row.micros, row.tie) for row in rows)


async def test_equal_rows_stay_together_and_without_an_id_a_digest_orders(
    client: ClickHouseClient, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 4)
    table = await make(client, db, "query_text String, created_at DateTime", clickhouse_id_column="none")
    texts = ["same"] * 9 + ["other", "third"]
    await client.insert("logs", ["query_text", "created_at"], [texts, [START] * 11], database=db)
    pages = [page async for page in table.pages(None)]
    assert sum(map(len, pages)) == 11
    holding = [page for page in pages if any(row.text == b"same" for row in page)]
    assert len(holding) == 1


async def test_bytes_that_are_no_text_are_read_as_they_are(client: ClickHouseClient, db: str) -> None:
    table = await make(
        client, db, "id String, query_text String, created_at DateTime, user_id FixedString(4)"
    )
    await client.command(f"INSERT INTO {db}.logs SELECT unhex('FF00'), unhex('C328FF'), now(), 'ab'")
    (row,) = await all_rows(table)
    assert row.text == b"\xc3\x28\xff"
    assert row.id == b"\xff\x00"


async def test_rows_without_a_time_are_counted(client: ClickHouseClient, db: str) -> None:
    table = await make(client, db, "id UInt64, query_text String, created_at Nullable(DateTime)")
    await client.command(f"INSERT INTO {db}.logs VALUES (1, 'text', now()), (2, 'text', NULL)")
    assert await table.without_time() == 1
    assert [row.id for row in await table.timeless(10)] == [b"2"]
    assert [row.id for row in await all_rows(table)] == [b"1"]


@pytest.mark.parametrize(
    ("columns", "settings", "setting"),
    [
        ("id UInt64, query_text String, created_at String", {}, "CLICKHOUSE_TIMESTAMP_COLUMN"),
        ("id UInt64, query_text UInt8, created_at DateTime", {}, "CLICKHOUSE_TEXT_COLUMN"),
        ("id UInt64, msg String, created_at DateTime", {}, "CLICKHOUSE_TEXT_COLUMN"),
        (
            "id UInt64, query_text String, created_at DateTime",
            {"clickhouse_user_id_column": "uid"},
            "CLICKHOUSE_USER_ID_COLUMN",
        ),
        (
            "id UInt64, query_text String, created_at DateTime",
            {"clickhouse_table": "nope"},
            "CLICKHOUSE_TABLE",
        ),
    ],
)
async def test_what_cannot_serve_is_named(
    client: ClickHouseClient, db: str, columns: str, settings: dict[str, str], setting: str
) -> None:
    table = await make(client, db, columns, **settings)
    with pytest.raises(ConfigurationError) as caught:
        await table.inspect()
    assert caught.value.setting == setting
    assert caught.value.fix


async def test_the_index_is_used(client: ClickHouseClient, db: str) -> None:
    await client.command(
        f"CREATE TABLE {db}.logs (id UInt64, query_text String, created_at DateTime('Europe/Moscow')) "
        "ENGINE = MergeTree ORDER BY created_at SETTINGS index_granularity = 100"
    )
    await client.command(
        f"INSERT INTO {db}.logs SELECT number, 'text', toDateTime('2026-01-01 00:00:00', 'UTC') + number "
        "FROM numbers(100000)"
    )
    table = SourceTable(client, Settings(clickhouse_database=db))
    since = micros_of(datetime(2026, 1, 1, tzinfo=UTC)) + 99_990 * 1_000_000
    assert len(await all_rows(table, since)) == 10
    read = (await table.shape()).select(("id",), since)
    plan = await client.rows(f"EXPLAIN indexes = 1 {read.sql}", read.parameters)
    granules = re.findall(r"Granules: (\d+)/(\d+)", "\n".join(line for (line,) in plan))
    assert any(int(read) <= 2 and int(there) >= 900 for read, there in granules), plan
