"""Changes rows of a table in place, and waits until that is done."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import literal, qualified
from streams.core.errors import UnavailableError

_LOOK_SECONDS = 0.2
# A replica learns of a mutation from the Keeper, also of one that it has written there itself.
_LEARN_SECONDS = 60.0


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
    seen, deadline = False, time.monotonic() + _LEARN_SECONDS
    while True:
        ((listed, left, reason),) = await client.rows(
            "SELECT count(), countIf(NOT is_done), maxIf(latest_fail_reason, NOT is_done)\n"
            "FROM system.mutations WHERE database = {database:String} AND table = {table:String}\n"
            "    AND position(command, {mark:String}) > 0",
            {"database": database, "table": table, "mark": mark},
        )
        seen = seen or int(listed) > 0
        if seen and not int(left):
            return
        if reason:
            raise UnavailableError(
                f"{table} cannot be changed: {str(reason)[:300]}", setting="CLICKHOUSE_HOST"
            )
        if not seen and time.monotonic() > deadline:
            raise UnavailableError(f"{table}: a change of it is not listed", setting="CLICKHOUSE_HOST")
        await asyncio.sleep(_LOOK_SECONDS)
