"""A Distributed source over two shards, one of which cannot be reached, and the results beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.schema.database import create_tables
from connectors.clickhouse.schema.topology import look_at_every_host
from connectors.clickhouse.sink.replicas import Replicas
from connectors.clickhouse.source.shards import skipping_tables
from connectors.clickhouse.source.table import SourceRow, SourceTable
from streams.core.errors import ConfigurationError, UnavailableError
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

            await client.command("CREATE VIEW esk.seen AS SELECT * FROM esk.logs")
            await client.command("CREATE VIEW esk.through AS SELECT id, query_text, created_at FROM esk.seen")
            seen = SourceTable(client, settings.model_copy(update={"clickhouse_table": "through"}))
            assert await skipping_tables(client, await seen.inspect()) == ["esk.logs"]


async def test_results_are_joined_with_the_rows_of_every_shard_and_are_not_spread_themselves(
    tmp_path: Path,
) -> None:
    with server(tmp_path, "UTC") as (host, port):
        settings = Settings(
            clickhouse_host=host,
            clickhouse_port=port,
            clickhouse_database="esk",
            clickhouse_result_database="res",
        )
        async with ClickHouseClient.from_settings(settings) as client:
            await client.command("CREATE DATABASE esk")
            await create_tables(client, settings)
            await client.command(f"CREATE TABLE esk.every ({_COLUMNS}) ENGINE = MergeTree ORDER BY id")
            await client.command(
                f"INSERT INTO esk.every SELECT number, 'text', '2026-03-01' FROM numbers({_ROWS})"
            )
            await client.command(
                "CREATE VIEW esk.kept AS SELECT * FROM esk.every WHERE id % 2 = shardNum() - 1"
            )
            await client.command(
                f"CREATE TABLE esk.logs AS esk.every ENGINE = Distributed('{SHARDS}', esk, kept)"
            )
            # Two labels of each row, of which the newer one is current.
            await client.command(
                "INSERT INTO res.logs_labeled\n"
                "(row_id, created_at, label, label_version, labeled_at, _offset)\n"
                "SELECT toString(number), '2026-03-01', if(half, 'new', 'old'), 'v1',\n"
                f"toDateTime64(half, 6), 2 * number + half FROM numbers({_ROWS}) ARRAY JOIN [0, 1] AS half"
            )
            # As docs/guide/operations.md shows it: each shard joins its rows with the results that it has.
            await client.command(
                "CREATE VIEW esk.labelled AS SELECT id, query_text, label FROM esk.logs\n"
                "JOIN res.logs_labeled_current AS c ON c.row_id = toString(id)"
            )
            ((count, ids, labels),) = await client.rows(
                "SELECT count(), uniqExact(id), groupUniqArray(label) FROM esk.labelled"
            )
            assert (count, ids, labels) == (_ROWS, _ROWS, ["new"])
            ((found,),) = await client.rows(
                "SELECT count() FROM esk.logs WHERE toString(id) IN\n"
                "(SELECT row_id FROM res.logs_labeled_current WHERE label = 'new')"
            )
            assert found == _ROWS

            # Tables of one's own over the results are for reading.
            await client.command("CREATE DATABASE spread")
            await client.command(
                "CREATE TABLE spread.logs_labeled AS res.logs_labeled\n"
                f"ENGINE = Distributed('{SHARDS}', res, logs_labeled, cityHash64(row_id))"
            )
            spread = settings.model_copy(update={"clickhouse_result_database": "spread"})
            for refusing in (
                create_tables(client, spread),
                look_at_every_host(client, spread),
                Replicas(client, "spread").learn(),
            ):
                with pytest.raises(ConfigurationError, match=r"logs_labeled \(Distributed\) in spread"):
                    await refusing
            assert await client.rows("SHOW TABLES FROM spread") == [("logs_labeled",)]
