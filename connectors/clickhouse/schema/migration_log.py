"""The log `schema_migrations`: which migrations a result database has had."""

from __future__ import annotations

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import quoted
from connectors.clickhouse.schema.placement import PLAIN, Placement

MIGRATIONS = "schema_migrations"
# A migration is begun, a table of it exchanged, and it is done.
BEGUN, EXCHANGED, DONE = "begun", "exchanged", "done"

_COLUMNS = """\
    `version` UInt32 COMMENT 'the schema version that the migration leads to; 0.1.0 wrote version 1',
    `name` String COMMENT 'what it does',
    `state` LowCardinality(String) COMMENT 'begun, exchanged or done',
    `at` DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'when that was'"""


def migrations_table(database: str, placement: Placement = PLAIN) -> str:
    """The statement that makes the log."""
    return (
        f"CREATE TABLE IF NOT EXISTS {placement.name(database, MIGRATIONS)} (\n{_COLUMNS}\n"
        f") ENGINE = {placement.engine(database, MIGRATIONS, 'MergeTree')}\nORDER BY (version, at)"
    )


class MigrationLog:
    """The log of one database, which must have its table."""

    def __init__(self, client: ClickHouseClient, database: str) -> None:
        self._client = client
        self._table = f"{quoted(database)}.{quoted(MIGRATIONS)}"

    async def done(self) -> set[int]:
        """The versions of migrations that were done."""
        rows = await self._client.rows(
            f"SELECT DISTINCT version FROM {self._table} WHERE state = {{state:String}}", {"state": DONE}
        )
        return {int(version) for (version,) in rows}

    async def unfinished(self) -> set[int]:
        """The versions of migrations that were begun and not done."""
        rows = await self._client.rows(
            f"SELECT version FROM {self._table} GROUP BY version\n"
            "HAVING countIf(state = {begun:String}) > 0 AND countIf(state = {done:String}) = 0",
            {"begun": BEGUN, "done": DONE},
        )
        return {int(version) for (version,) in rows}

    async def last(self, version: int, state: str) -> int:
        """When the migration to ``version`` came to ``state`` last: microseconds since 1970; 0 for never."""
        rows = await self._client.rows(
            f"SELECT toUnixTimestamp64Micro(max(at)) FROM {self._table} "
            "WHERE version = {version:UInt32} AND state = {state:String}",
            {"version": version, "state": state},
        )
        return int(rows[0][0])

    async def write(self, version: int, name: str, state: str) -> None:
        """Add a line."""
        await self._client.command(
            f"INSERT INTO {self._table} (version, name, state)\n"
            "SELECT {version:UInt32}, {name:String}, {state:String}",
            {"version": version, "name": name, "state": state},
        )
