"""The result database as a whole: its statements (`labelstream describe ddl`), and making what is missing."""

from __future__ import annotations

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import qualified, quoted
from connectors.clickhouse.schema.columns import PLACE, columns_of
from connectors.clickhouse.schema.current_view import current_view, replace_view
from connectors.clickhouse.schema.tables import (
    AUDIT,
    STORED,
    VERSIONS,
    audit_table,
    column_definition,
    stored_table,
    versions_table,
)
from streams.core.settings import Settings

log = structlog.get_logger()


def statements(database: str) -> list[str]:
    """Every statement that makes the result database, in order; each is idempotent."""
    return [
        f"CREATE DATABASE IF NOT EXISTS {quoted(database)}",
        *(stored_table(database, name) for name in STORED),
        versions_table(database),
        audit_table(database),
        current_view(database),
    ]


def describe_ddl(settings: Settings) -> str:
    """All statements, as one would run them by hand."""
    return ";\n\n".join(statements(settings.result_database)) + ";\n"


async def create_tables(client: ClickHouseClient, settings: Settings) -> None:
    """Make what is missing: the database, tables, columns that a later release added, the view.

    Raises:
        UnavailableError: ClickHouse does not answer.
        AccessError: the user may not create.
    """
    database = settings.result_database
    if not await client.rows("SELECT 1 FROM system.databases WHERE name = {name:String}", {"name": database}):
        await client.command(f"CREATE DATABASE IF NOT EXISTS {quoted(database)}")
    present = await _present(client, database)
    for name in STORED:
        if name not in present:
            await client.command(stored_table(database, name))
        else:
            await _add_columns(client, database, name, present[name])
    if VERSIONS not in present:
        await client.command(versions_table(database))
    if AUDIT not in present:
        await client.command(audit_table(database))
    await replace_view(client, database)


async def _present(client: ClickHouseClient, database: str) -> dict[str, set[str]]:
    """The tables that are there, with their columns."""
    rows = await client.rows(
        "SELECT table, name FROM system.columns WHERE database = {database:String}", {"database": database}
    )
    present: dict[str, set[str]] = {}
    for table, column in rows:
        present.setdefault(table, set()).add(column)
    return present


async def _add_columns(client: ClickHouseClient, database: str, table: str, have: set[str]) -> None:
    message, _ = STORED[table]
    previous = ""
    for column in (*columns_of(message), *PLACE):
        if column.name not in have:
            place = f" AFTER {quoted(previous)}" if previous else " FIRST"
            await client.command(
                f"ALTER TABLE {qualified(database, table)} "
                f"ADD COLUMN IF NOT EXISTS {column_definition(column)}{place}"
            )
            log.info("column_added", table=table, column=column.name)
        previous = column.name
