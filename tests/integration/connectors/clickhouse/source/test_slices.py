"""A table that is not sorted by time: read in order and whole, by a number of queries that does not grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.poller import bulk_source
from connectors.clickhouse.poller.bulk_page import BulkPage
from connectors.clickhouse.poller.bulk_source import BulkSource
from connectors.clickhouse.source import slices, table
from connectors.clickhouse.source.slices import MOST_SLICES
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings

# Times with gaps, in moments of one row, of some and of more than a page; one is far away from the others.
TIMES = "toDateTime('2026-01-01 00:00:00', 'UTC') + if(n < 900, n % 300, if(n < 1800, 5000, n * (n % 7)))"
TABLES = {
    "by user": ("ENGINE = MergeTree ORDER BY (user_id, created_at)", "DateTime"),
    "by nothing": ("ENGINE = MergeTree ORDER BY tuple()", "DateTime64(3)"),
    "by month, then user": (
        "ENGINE = MergeTree PARTITION BY toYYYYMM(created_at) ORDER BY user_id",
        "DateTime",
    ),
    "merging": ("ENGINE = ReplacingMergeTree ORDER BY id", "Nullable(DateTime)"),
    "of days": ("ENGINE = MergeTree ORDER BY user_id", "Date"),
    "a log": ("ENGINE = Log", "DateTime"),
}


class CountingClient(ClickHouseClient):
    """Counts the reads."""

    reads = 0

    async def _read(self, sql: str, call: Any, *more: Any) -> Any:
        self.reads += 1
        return await super()._read(sql, call, *more)

    def stream(self, *args: Any, **kwargs: Any) -> None:
        self.reads += 1
        super().stream(*args, **kwargs)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices and pages that a test can fill."""
    monkeypatch.setattr(slices, "SLICE_BYTES", 20_000)
    monkeypatch.setattr(table, "PAGE_ROWS", 50)
    monkeypatch.setattr(bulk_source, "_MOST_ROWS", 50)


async def made(client: ClickHouseClient, db: str, name: str, rows: int) -> None:
    engine, type_ = TABLES[name]
    await client.command(
        f"CREATE TABLE {db}.logs (id UInt64, user_id String, query_text String, created_at {type_}) {engine}"
    )
    await client.command(
        f"INSERT INTO {db}.logs SELECT n, toString(sipHash64(n) % 97), concat('text ', toString(n % 5)), "
        f"{TIMES} FROM (SELECT number AS n FROM numbers({rows}))"
    )
    if name == "by user":  # without ids, of equal text, at one time: equal rows
        await client.command(f"ALTER TABLE {db}.logs DROP COLUMN id")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.usefixtures("small")
async def test_every_row_comes_once_in_the_order_of_time(
    client: ClickHouseClient, db: str, name: str
) -> None:
    await made(client, db, name, 3_000)
    source = BulkSource(client, Settings(clickhouse_database=db))
    rows = [row for row in [page async for page in source.pages(None)] for row in row]
    assert len(rows) == 3_000
    assert [(row.micros, row.tie) for row in rows] == sorted((row.micros, row.tie) for row in rows)
    if name != "by user":
        assert len({row.id for row in rows}) == 3_000
    first, last = rows[100].micros, rows[2_500].micros
    some = [row for page in [page async for page in source.pages(first, last)] for row in page]
    assert some == [row for row in rows if first <= row.micros < last]
    pages = [page async for page in source.bulk(None)]
    assert all(isinstance(page, BulkPage) for page in pages)
    made_pages = [page for page in pages if isinstance(page, BulkPage)]
    times = [at for page in made_pages for at in page.micros.tolist()]
    assert times == [row.micros for row in rows]
    where = [
        (at, content) for page in made_pages for at, content in zip(page.micros, page.contents, strict=True)
    ]
    ends = [where[sum(map(len, made_pages[:n]))] for n in range(1, len(made_pages))]
    before = [where[sum(map(len, made_pages[:n])) - 1] for n in range(1, len(made_pages))]
    assert all(one != two for one, two in zip(before, ends, strict=True)), "equal rows are in one page"
    assert [page async for page in source.pages(2**52, 2**53)] == []


@pytest.mark.usefixtures("small")
async def test_the_number_of_queries_does_not_grow_with_the_table(client: ClickHouseClient, db: str) -> None:
    counting = CountingClient(
        host=client.hosts.current.name,
        port=client.hosts.current.port,
        **{key: client._arguments[key] for key in ("username", "password")},
    )
    asked = []
    try:
        for rows in (4_000, 40_000):
            await client.command(f"DROP TABLE IF EXISTS {db}.logs")
            await made(client, db, "by user", rows)
            source = BulkSource(counting, Settings(clickhouse_database=db, clickhouse_id_column="none"))
            await source.shape()
            counting.reads = 0
            assert sum([len(page) async for page in source.pages(None)]) == rows
            asked.append(counting.reads)
    finally:
        await counting.close()
    assert asked[0] < asked[1] <= 1 + MOST_SLICES


@pytest.mark.usefixtures("small")
async def test_no_room_for_a_temporary_file_is_told(
    client: ClickHouseClient, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(client, db, "by nothing", 1_000)
    source = BulkSource(client, Settings(clickhouse_database=db))

    def full(dir: Path | None) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(ConfigurationError, match="No space left") as error:
        _ = [page async for page in source.pages(None)]
    assert error.value.setting == "LABELSTREAM_DATA"
