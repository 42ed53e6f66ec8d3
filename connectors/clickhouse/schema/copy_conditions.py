"""What must hold before a result table is copied: one server, free disk space, no mutation in progress."""

from __future__ import annotations

import asyncio

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from streams.core.errors import AccessError, ConfigurationError

log = structlog.get_logger()

SETTING = "CLICKHOUSE_RESULT_DATABASE"
_ROOM = 1.2
_LOOK_AGAIN = 1.0


async def refuse_replicas(client: ClickHouseClient, database: str, table: str) -> None:
    """A replicated table outside a Replicated database would be changed on this server only.

    Raises:
        ConfigurationError: it is one.
    """
    ((engine, of_database),) = await client.rows(
        "SELECT engine, (SELECT engine FROM system.databases WHERE name = {database:String})\n"
        "FROM system.tables WHERE database = {database:String} AND name = {table:String}",
        {"database": database, "table": table},
    )
    if engine.startswith("Replicated") and of_database != "Replicated":
        raise ConfigurationError(
            f"{database}.{table} has replicas on servers that labelstream does not know",
            setting=SETTING,
            fix="on each of them: make a table with the sorting key of labelstream describe ddl, copy the "
            "rows with INSERT SELECT, and exchange the two by EXCHANGE TABLES",
        )


async def refuse_no_room(client: ClickHouseClient, database: str, table: str) -> None:
    """A copy that fills the disk would also stop the sinks.

    Raises:
        ConfigurationError: the disks that the table is on have too little room for a copy of it.
    """
    try:
        ((size, disks),) = await client.rows(
            "SELECT sum(bytes_on_disk), groupUniqArray(disk_name) FROM system.parts\n"
            "WHERE active AND database = {database:String} AND table = {table:String}",
            {"database": database, "table": table},
        )
        ((free,),) = await client.rows(
            "SELECT sum(free_space) FROM system.disks WHERE name IN {names:Array(String)}",
            {"names": list(disks)},
        )
    except AccessError:
        return  # no right to look
    needed = int(size) * _ROOM
    if disks and needed > int(free):
        raise ConfigurationError(
            f"{database}.{table} has to be copied: that takes {needed / 1e9:.1f} GB, and "
            f"{int(free) / 1e9:.1f} GB are free",
            setting=SETTING,
            fix="make room on ClickHouse's disks, then run labelstream init again",
        )


async def mutations_ended(client: ClickHouseClient, database: str, table: str) -> None:
    """Wait until the table has no unfinished mutation.

    Raises:
        ConfigurationError: one of them fails.
    """
    said = False
    while rows := await client.rows(
        "SELECT command, latest_fail_reason FROM system.mutations\n"
        "WHERE NOT is_done AND NOT is_killed AND database = {database:String} AND table = {table:String}",
        {"database": database, "table": table},
    ):
        for command, reason in rows:
            if reason:
                raise ConfigurationError(
                    f"a mutation of {database}.{table} fails: {command}: {reason}",
                    setting=SETTING,
                    fix="end it by KILL MUTATION, or mend it, then run labelstream init again",
                )
        if not said:
            log.info("waiting_for_mutations", table=table, mutations=[command for command, _ in rows])
            said = True
        await asyncio.sleep(_LOOK_AGAIN)
