"""Tries cases: each row found once by each reader."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from unittest.mock import patch

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import quoted
from connectors.clickhouse.poller import bulk_source
from connectors.clickhouse.schema.database import create_tables
from connectors.clickhouse.source import table
from streams.core.settings import Settings
from tests.integration.tables.cases import Case
from tests.integration.tables.readers import Reading, in_zone
from tests.integration.tables.stores import statements

Address = tuple[str, int]
_ALLOWED = {
    "allow_suspicious_low_cardinality_types": 1,
    "allow_suspicious_primary_key": 1,
    "log_comment": "trial",
}


@asynccontextmanager
async def _client(address: Address, zone: str | None = None) -> AsyncIterator[ClickHouseClient]:
    client = ClickHouseClient(host=address[0], port=address[1], username="default", password="")
    in_zone(client, zone)
    try:
        yield client
    finally:
        await client.close()


@contextmanager
def small_pages(rows: int = 7) -> Iterator[None]:
    """So that a few rows are several pages."""
    with (
        patch.object(table, "PAGE_ROWS", rows),
        patch.object(bulk_source, "PAGE_ROWS", rows),
        patch.object(bulk_source, "_MOST_ROWS", rows * 3 // 2),
    ):
        yield


async def prepare(address: Address) -> None:
    """Make the result tables, which stay empty."""
    settings = Settings(clickhouse_host=address[0], clickhouse_port=address[1], clickhouse_database="results")
    async with _client(address) as client:
        await create_tables(client, settings)


async def drop_database(client: ClickHouseClient, name: str) -> None:
    """Drop a database, its views first: the server may remember a view of a table that went before it, and
    then refuses to insert into a later table of that name.
    """
    views = "SELECT name FROM system.tables WHERE database = {d:String} AND endsWith(engine, 'View')"
    for (view,) in await client.rows(views, {"d": name}):
        await client.command(f"DROP TABLE {quoted(name)}.{quoted(view)} SYNC")
    await client.command(f"DROP DATABASE IF EXISTS {quoted(name)} SYNC")


async def make(address: Address, case: Case) -> None:
    """Make the case's table anew."""
    async with _client(address) as client:
        for name, value in _ALLOWED.items():
            client.call(lambda driver, n=name, v=value: driver.set_client_setting(n, v))
        for (old,) in await client.rows("SELECT name FROM system.databases WHERE match(name, '^t( |$)')"):
            await drop_database(client, old)
        for new in ("t", case.database):
            await client.command(f"CREATE DATABASE {quoted(new)}")
        await client.command("CREATE TABLE t.given (n UInt32, t Nullable(Int64)) ENGINE = Memory")
        numbers, ticks = zip(*case.rows, strict=True)
        await client.insert("given", ["n", "t"], [numbers, ticks], database="t")
        for statement in statements(case):
            await client.command(statement)


def settings_of(address: Address, case: Case) -> Settings:
    return Settings(
        clickhouse_host=address[0],
        clickhouse_port=address[1],
        clickhouse_result_database="results",
        **case.settings,  # type: ignore[arg-type]
    )


async def troubles(address: Address, case: Case, folder: Path) -> list[str]:
    """What each reader did not do right."""
    await make(address, case)
    wanted, told = case.found, []
    async with _client(address, case.session_zone) as client:
        reading = Reading(client, settings_of(address, case), case.session_zone, random.Random(case.seed))
        for name, read in reading.readers(folder).items():
            with small_pages():
                found = await read()
            if found != wanted:
                told.append(f"{name}: missing {_some(wanted - found)}, too many {_some(found - wanted)}")
        if (count := await reading.counts()) != wanted.total():
            told.append(f"counts: {count} instead of {wanted.total()}")
        named = case.ids
        if max(reading.ids.values(), default=1) > 1:
            told.append(f"ids that stand for several rows: {reading.ids.most_common(2)}")
        elif named is not None and reading.ids != named:
            told.append(f"ids: {list(reading.ids - named)[:3]} instead of {list(named - reading.ids)[:3]}")
    return told


def _some(rows: Counter[tuple[str, int]]) -> str:
    return f"{rows.total()} {list(rows.elements())[:3]}"
