"""A read ends on the server: at its limit, and when whoever asked has gone."""

from __future__ import annotations

import asyncio

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from streams.core.errors import UnavailableError
from tests.integration.connectors.clickhouse.engine import Database
from tests.waiting import eventually

ENDLESS = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) % 7 = {n:UInt8}"
SETTINGS = "SELECT getSetting('max_execution_time'), getSetting('readonly')"


async def running(client: ClickHouseClient) -> int:
    rows = await client.rows(
        "SELECT count() FROM system.processes WHERE startsWith(query, 'SELECT count() FROM numbers(1000000')"
    )
    return int(rows[0][0])


async def test_a_read_of_which_the_caller_is_cancelled_ends(database: Database) -> None:
    client, _ = database
    reads = [asyncio.create_task(client.rows(ENDLESS, {"n": number})) for number in range(3)]
    await eventually(lambda: _are(client, 3), "the reads run")
    for read in reads:
        read.cancel()
    await asyncio.wait(reads)
    assert all(read.cancelled() for read in reads)
    await eventually(lambda: _are(client, 0), "none of them runs")


async def test_the_server_gives_up_before_the_client(database: Database) -> None:
    _, settings = database
    async with ClickHouseClient.from_settings(settings, answer_seconds=2.0) as client:
        with pytest.raises(UnavailableError, match="took too long"):
            await client.rows(ENDLESS, {"n": 1})
        assert [int(one) for one in (await client.rows(SETTINGS))[0]] == [1, 2]


async def test_a_user_who_may_change_nothing_reads_without_limits(database: Database) -> None:
    _, settings = database
    async with ClickHouseClient.from_settings(settings) as client:
        client.call(lambda driver: driver.set_client_setting("readonly", 1))
        assert int((await client.rows("SELECT getSetting('readonly')"))[0][0]) == 1


async def _are(client: ClickHouseClient, count: int) -> bool:
    return await running(client) == count
