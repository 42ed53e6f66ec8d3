"""Rows are copied in slices, each message once, and one statement at a time."""

from __future__ import annotations

import asyncio

import pytest

from connectors.clickhouse.schema.copy_rows import RowCopy
from tests.integration.connectors.clickhouse.engine import Database
from tests.integration.connectors.clickhouse.schema.older import mortal


@pytest.mark.parametrize("moments", [1, 2, 40])
async def test_a_copy_takes_slices_and_each_row_once(database: Database, moments: int) -> None:
    client, configured = database
    name = configured.result_database
    await client.command(
        f"INSERT INTO {name}.logs_labeled (row_id, created_at, label_version, _offset)\n"
        "SELECT toString(number), "
        f"toDateTime64('2026-03-01', 6, 'UTC') + toIntervalSecond(number % {moments}), 'v1', number "
        "FROM numbers(40)"
    )
    await client.command(f"CREATE TABLE {name}.other AS {name}.logs_labeled")
    life = mortal(configured)
    copy = RowCopy(life, name, ["row_id", "created_at", "label_version", "_offset"],
                   "created_at, row_id, _offset", slice_rows=10)  # fmt: skip
    await copy.copy("logs_labeled", "other")
    first = [sql for sql in life.statements if sql.startswith("INSERT")]
    assert 4 <= len(first) <= 5
    await copy.copy("logs_labeled", "other")
    rows = await client.rows(f"SELECT _offset FROM {name}.other ORDER BY _offset")
    assert rows == [(number,) for number in range(40)]
    await life.close()


async def test_a_copy_waits_for_the_statement_of_a_killed_process(database: Database) -> None:
    client, configured = database
    name = configured.result_database
    await client.command(f"CREATE TABLE {name}.other AS {name}.logs_labeled")
    await client.command(f"INSERT INTO {name}.logs_labeled (row_id, label_version) SELECT '1', 'v1'")
    left = asyncio.create_task(
        client.command(
            f"INSERT INTO {name}.other (row_id, label_version) SELECT row_id, label_version "
            f"FROM {name}.logs_labeled WHERE sleepEachRow(2) = 0",
            query_id=f"labelstream-init/{name}/copy",
        )
    )
    while not await client.rows(
        "SELECT 1 FROM system.processes WHERE query_id LIKE 'labelstream-init/%/copy'"
    ):
        await asyncio.sleep(0.02)
    copy = RowCopy(client, name, ["row_id", "created_at", "label_version"], "created_at, row_id, _offset")
    await copy.copy("logs_labeled", "other")
    assert left.done()
    assert await client.rows(f"SELECT count() FROM {name}.other") == [(1,)]
