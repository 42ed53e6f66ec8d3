"""Changes rows of a table in place, and waits until that is done."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import literal, qualified
from streams.core.errors import UnavailableError

_LOOK_SECONDS = 0.2


async def mutate(
    client: ClickHouseClient, database: str, table: str, change: str, given: Mapping[str, object]
) -> None:
    """Run a mutation, ``change`` ends with its condition, and wait for it without a limit of time: each part
    with one of these rows is written anew, which takes minutes where the table has 100,000,000.

    Raises:
        UnavailableError: ClickHouse does not answer, or cannot do it.
        AccessError: the user may not ALTER DELETE or ALTER UPDATE.
    """
    mark = secrets.token_hex(8)  # those of others are not waited for
    await client.command(
        f"ALTER TABLE {qualified(database, table)} {change} AND {literal(mark)} != '' "
        "SETTINGS mutations_sync = 0",
        given,
    )
    while True:
        rows = await client.rows(
            "SELECT count(), max(latest_fail_reason) FROM system.mutations\n"
            "WHERE NOT is_done AND database = {database:String} AND table = {table:String}\n"
            "    AND position(command, {mark:String}) > 0",
            {"database": database, "table": table, "mark": mark},
        )
        if not int(rows[0][0]):
            return
        if rows[0][1]:
            raise UnavailableError(
                f"{table} cannot be changed: {str(rows[0][1])[:300]}", setting="CLICKHOUSE_HOST"
            )
        await asyncio.sleep(_LOOK_SECONDS)
