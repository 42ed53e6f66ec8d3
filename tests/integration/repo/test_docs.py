"""The SQL that the documents show, on the real engine."""

from __future__ import annotations

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.schema.database import create_tables
from streams.core.environment import load
from tests.stack import SharedStack, fresh_name
from tests.unit.repo.pages import PAGES, blocks


async def test_sql_that_is_shown_runs_on_the_result_tables(shared: SharedStack) -> None:
    shown = [block for page in PAGES for language, block in blocks(page) if language == "sql"]
    assert shown
    database, part = fresh_name("docs"), shared.clickhouse()
    environment = {
        "CLICKHOUSE_HOST": str(part.host),
        "CLICKHOUSE_PORT": str(part.port),
        "CLICKHOUSE_DATABASE": database,
    }
    settings = load(environment, None)
    client = ClickHouseClient.from_settings(settings)
    await create_tables(client, settings)
    # The reader's own: a Distributed table over the shards with the queries.
    await client.command(
        f"CREATE TABLE {database}.logs_of_all_shards (id UInt64, query_text String, created_at DateTime)\n"
        "ENGINE = MergeTree ORDER BY id"
    )
    for sql in shown:
        assert "esk." in sql
        assert await client.rows(sql.replace("esk.", f"{database}.")) == []
    await client.close()
