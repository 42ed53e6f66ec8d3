"""The changes of the result tables from release to release, in order.

A change that needs more than a new column is a migration. Which ones a database needs follows from its
tables; `schema_migrations` records when each was begun and done, for people and for later releases.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Protocol

import structlog

from connectors.clickhouse.client.catch_up import catch_up
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.schema.migration_log import DONE, MIGRATIONS, MigrationLog
from connectors.clickhouse.schema.place_in_key import PlaceInKey
from connectors.clickhouse.schema.replica_servers import keeper_of_the_lock
from connectors.clickhouse.schema.schema_lock import SchemaLock
from connectors.clickhouse.schema.tables import AUGMENTED, LABELED
from streams.core.errors import ConfigurationError, UnavailableError

log = structlog.get_logger()


class Migration(Protocol):
    """One step forward, to schema ``version``. The next `run` continues one that was killed."""

    version: int
    name: str

    def statements(self, database: str) -> list[str]:
        """What it runs, for people to read."""
        ...

    async def needed(self, client: ClickHouseClient, database: str) -> bool:
        """Whether anything of it is left to do."""
        ...

    async def run(
        self, client: ClickHouseClient, database: str, lock: SchemaLock, history: MigrationLog
    ) -> None:
        """Do what is left to do."""
        ...


# What 0.1.0 wrote is version 1.
ALL: tuple[Migration, ...] = (PlaceInKey(2, LABELED), PlaceInKey(3, AUGMENTED))


async def pending(
    client: ClickHouseClient, database: str, migrations: Sequence[Migration] = ALL
) -> list[Migration]:
    """The migrations that have something left to do.

    Raises:
        UnavailableError: ClickHouse does not answer.
    """
    return [one for one in migrations if await one.needed(client, database)]


async def migrate(
    client: ClickHouseClient,
    database: str,
    migrations: Sequence[Migration] = ALL,
    *,
    lock: SchemaLock | None = None,
) -> list[Migration]:
    """Run the migrations that are needed and record them; returns those that were run. The table
    `schema_migrations` must exist.

    Waits while another process runs them.

    Raises:
        ConfigurationError: a person must do something first.
        UnavailableError: ClickHouse does not answer; run it again.
    """
    history = MigrationLog(client, database)
    done: list[Migration] = []
    if await _left(client, database, migrations):
        async with keeper_of_the_lock(client, database) as keeper:
            history = MigrationLog(keeper, database)
            async with lock or SchemaLock(keeper, database) as held:
                for one in await _left(client, database, migrations):
                    log.info("migration_begins", version=one.version, name=one.name)
                    await one.run(client, database, held, history)
                    log.info("migration_done", version=one.version, name=one.name)
                    done.append(one)
            await _note(history, migrations, done)
    else:
        await _note(history, migrations, done)
    return done


async def _left(client: ClickHouseClient, database: str, migrations: Sequence[Migration]) -> list[Migration]:
    """As `pending`, and those that were begun, and may have something left to do on another host."""
    left = await pending(client, database, migrations)
    if client.hosts.several:
        with contextlib.suppress(UnavailableError):
            await catch_up(client, database, MIGRATIONS)
        unfinished = await MigrationLog(client, database).unfinished()
        left = [one for one in migrations if one in left or one.version in unfinished]
    return left


async def _note(history: MigrationLog, migrations: Sequence[Migration], done: Sequence[Migration]) -> None:
    noted = await history.done()
    for one in migrations:
        if one.version not in noted or one in done:
            await history.write(one.version, one.name, DONE)


async def refuse_other_schema(
    client: ClickHouseClient, database: str, migrations: Sequence[Migration] = ALL
) -> None:
    """Refuse tables of an older or a newer release.

    Raises:
        ConfigurationError: it names the migrations that are needed, or the newer schema.
    """
    if newer := await newer_schema(client, database, migrations):
        raise ConfigurationError(
            f"{database} has schema {newer}, of a newer release; this one knows {migrations[-1].version}",
            setting="CLICKHOUSE_RESULT_DATABASE",
            fix="use the newer release",
        )
    if left := await pending(client, database, migrations):
        raise ConfigurationError(
            f"the tables in {database} are of an older release: {'; '.join(one.name for one in left)}",
            setting="CLICKHOUSE_RESULT_DATABASE",
            fix="labelstream init changes them, with their rows",
        )


async def newer_schema(
    client: ClickHouseClient, database: str, migrations: Sequence[Migration] = ALL
) -> int | None:
    """The database's schema version, if this release does not know it."""
    if not await client.rows(
        "SELECT 1 FROM system.tables WHERE database = {database:String} AND name = {name:String}",
        {"database": database, "name": MIGRATIONS},
    ):
        return None
    newest = max(await MigrationLog(client, database).done(), default=0)
    return newest if newest > migrations[-1].version else None
