"""The whole result database: its statements (`labelstream describe ddl`), and the creation of what is
missing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import qualified, quoted
from connectors.clickhouse.schema.add_projections import add_projections, create_stored_table
from connectors.clickhouse.schema.columns import ADDED, columns_of
from connectors.clickhouse.schema.current_view import current_view, replace_view
from connectors.clickhouse.schema.migration_log import MIGRATIONS, migrations_table
from connectors.clickhouse.schema.migrations import Migration, migrate, newer_schema
from connectors.clickhouse.schema.placement import PLAIN, Placement, on_cluster
from connectors.clickhouse.schema.planning import PlanningClient, plan_migrations
from connectors.clickhouse.schema.retention import changing_statements, retention_statements, set_retention
from connectors.clickhouse.schema.tables import (
    ANSWERS,
    AUDIT,
    CURRENT,
    ERASURES,
    LIVE_COLUMN,
    STORED,
    VERSIONS,
    answers_table,
    audit_table,
    column_definition,
    erasures_table,
    stored_table,
    versions_table,
)
from connectors.clickhouse.schema.topology import EVERY, Kind, look_at
from streams.core.errors import UnavailableError
from streams.core.settings import Settings

log = structlog.get_logger()

_Client = TypeVar("_Client", bound=ClickHouseClient)


def statements(database: str, placement: Placement = PLAIN) -> list[str]:
    """Every statement that creates the result database, in order; each is idempotent."""
    return [
        placement.create_database(database),
        *(stored_table(database, name, placement) for name in STORED),
        versions_table(database, placement),
        audit_table(database, placement),
        answers_table(database, placement),
        erasures_table(database, placement),
        migrations_table(database, placement),
        current_view(database, placement),
    ]


def describe_ddl(settings: Settings) -> str:
    """All statements, to be run by hand."""
    placement = on_cluster(settings.clickhouse_cluster) if settings.clickhouse_cluster else PLAIN
    every = [*statements(settings.result_database, placement), *retention_statements(settings)]
    return ";\n\n".join(every) + ";\n"


async def plan_tables(client: PlanningClient, settings: Settings) -> None:
    """Have ``client`` write down what `create_tables` would run.

    Raises:
        UnavailableError, ConfigurationError: as `create_tables`.
    """
    await _create(client, settings, plan_migrations)
    if settings.result_retention_days:
        present = await _present(client, settings.result_database)
        client.statements += changing_statements(
            settings, [(table, 0) for table in (*STORED, ANSWERS, AUDIT) if table not in present]
        )


async def create_tables(client: ClickHouseClient, settings: Settings) -> list[str]:
    """Make what is missing: the database, tables, columns that a later release added, the view. Tables of an
    older release are migrated. Returns the names of the migrations.

    Raises:
        UnavailableError: ClickHouse does not answer.
        AccessError: the user may not create.
        ConfigurationError: a table cannot be migrated; the text says what to do.
    """
    return await _create(client, settings, migrate)


async def _create(
    client: _Client, settings: Settings, migrate: Callable[[_Client, str], Awaitable[Sequence[Migration]]]
) -> list[str]:
    database = settings.result_database
    topology = await look_at(client, settings)
    topology.refuse()
    placement = topology.placement
    if not await client.rows("SELECT 1 FROM system.databases WHERE name = {name:String}", {"name": database}):
        await client.command(placement.create_database(database))
    if newer := await newer_schema(client, database):
        # Its release has made all that this one would.
        log.warning("schema_is_newer", database=database, schema=newer)
        return []
    present = await _present(client, database)
    for name in STORED:
        if name in present:
            await _add_columns(client, database, name, present[name])
    if MIGRATIONS not in present:
        await client.command(migrations_table(database, placement))
    migrated = await migrate(client, database)
    for name in STORED:
        if name not in present:
            await create_stored_table(client, database, name, placement)
    await add_projections(client, database, [name for name in STORED if name in present])
    if VERSIONS not in present:
        await client.command(versions_table(database, placement))
    elif "live" not in present[VERSIONS]:
        await client.command(
            f"ALTER TABLE {qualified(database, VERSIONS)} ADD COLUMN IF NOT EXISTS {LIVE_COLUMN}"
        )
    if AUDIT not in present:
        await client.command(audit_table(database, placement))
    if ANSWERS not in present:
        await client.command(answers_table(database, placement))
    if ERASURES not in present:
        await client.command(erasures_table(database, placement))
    await set_retention(client, settings)
    await replace_view(client, database, placement)
    if client.hosts.several and topology.kind in (Kind.PLAIN, Kind.CLUSTER):
        await _complete_hosts(client, database)
    return [one.name for one in migrated]


async def _complete_hosts(client: ClickHouseClient, database: str) -> None:
    """Make on the other hosts what they lack, by the statements that the current one has: a replica that is
    new, or that an ON CLUSTER did not reach. A replicated table joins those that are there.
    """
    made = await client.rows(
        "SELECT name, create_table_query FROM system.tables WHERE database = {database:String}\n"
        "    AND name IN {names:Array(String)} ORDER BY engine = 'View'",
        {"database": database, "names": [*EVERY, CURRENT]},
    )
    for host in client.hosts.every:
        if host == client.hosts.current:
            continue
        async with client.at(host) as one:
            try:
                present = await _present(one, database)
            except UnavailableError as error:
                log.warning("host_not_compared", host=str(host), reason=str(error)[:300])
                continue
            missing = [str(statement) for name, statement in made if name not in present]
            if missing:
                await one.command(f"CREATE DATABASE IF NOT EXISTS {quoted(database)}")
            for statement in missing:
                await one.command(statement)


async def _present(client: ClickHouseClient, database: str) -> dict[str, set[str]]:
    """The existing tables with their columns."""
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
    for column in (*columns_of(message), *ADDED):
        if column.name not in have:
            place = f" AFTER {quoted(previous)}" if previous else " FIRST"
            await client.command(
                f"ALTER TABLE {qualified(database, table)} "
                f"ADD COLUMN IF NOT EXISTS {column_definition(column)}{place}"
            )
            log.info("column_added", table=table, column=column.name)
        previous = column.name
