"""A Distributed source over two shards, one of which cannot be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.source.table import SourceRow, SourceTable
from streams.core.errors import UnavailableError
from streams.core.settings import Settings
from tests.integration.tables.server import CUT, SHARDS, server

_ROWS = 600
_COLUMNS = "id UInt64, query_text String, created_at DateTime64(3, 'UTC')"


async def _read(table: SourceTable) -> list[SourceRow]:
    return [row async for page in table.pages(None) for row in page]


async def test_each_row_of_every_shard_is_read_once_in_order_and_none_without_all_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.clickhouse.source.table.PAGE_ROWS", 40)
    with server(tmp_path, "UTC") as (host, port):
        settings = Settings(clickhouse_host=host, clickhouse_port=port, clickhouse_database="esk")
        async with ClickHouseClient.from_settings(settings) as client:
            await client.command("CREATE DATABASE esk")
            await client.command(
                f"CREATE TABLE esk.every ({_COLUMNS}) ENGINE = ReplacingMergeTree ORDER BY id"
            )
            # Rows of one time are on both shards; every tenth row has a newer version.
            for text, step in (("first", 1), ("newest", 10)):
                await client.command(
                    f"INSERT INTO esk.every SELECT number, '{text}',\n"
                    "toDateTime64('2026-03-01 00:00:00', 3, 'UTC') + intDiv(number, 3)\n"
                    f"FROM numbers({_ROWS}) WHERE number % {step} = 0"
                )
            # Both shards are one process. So what each of them keeps is told by its number.
            await client.command(
                "CREATE VIEW esk.kept AS SELECT * FROM esk.every WHERE id % 2 = shardNum() - 1"
            )
            for name, cluster in (("logs", SHARDS), ("cut", CUT)):
                await client.command(
                    f"CREATE TABLE esk.{name} AS esk.every ENGINE = Distributed('{cluster}', esk, kept)\n"
                    "SETTINGS skip_unavailable_shards = 1"
                )
            whole = SourceTable(client, settings)
            rows = await _read(whole)
            assert sorted(int(row.id or b"") for row in rows) == list(range(_ROWS))
            assert [row.micros for row in rows] == sorted(row.micros for row in rows)
            assert sum(row.text == b"newest" for row in rows) == _ROWS / 10
            assert "2 shards of the cluster shards" in " ".join(await whole.notes())

            ((left,),) = await client.rows("SELECT count() FROM esk.cut")
            assert 0 < int(left) < _ROWS  # as ClickHouse reads it: without a word
            half = SourceTable(client, settings.model_copy(update={"clickhouse_table": "cut"}))
            with pytest.raises(UnavailableError):
                await _read(half)
