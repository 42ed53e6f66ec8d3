"""The servers on which a table is changed: one, or every one that has a replica of it.

A Replicated database carries a change of names to its servers by itself. Elsewhere each server has names of
its own for a replicated table, and each of them is asked by its own connection. `ON CLUSTER` would reach a
server that is away later, behind our back, and drop there what only that server has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from connectors.clickhouse.client.catch_up import REPLICATED, sync_replica
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.errors import TABLE_MISSING, code_of
from connectors.clickhouse.client.sql import qualified
from streams.core.errors import ConfigurationError, LabelstreamError, RetryableError, UnavailableError

_HOST = "CLICKHOUSE_HOST"
_SYNC_SECONDS = 30
# So often in a row may a wait for replicas end without that their queue has become shorter.
_STUCK, _PAUSE = 5, 1.0


async def carries_on(client: ClickHouseClient, database: str) -> bool:
    """Whether the database carries a change of names to its servers: whether it is a Replicated one."""
    rows = await client.rows(
        "SELECT engine FROM system.databases WHERE name = {database:String}", {"database": database}
    )
    return bool(rows) and rows[0][0] == REPLICATED


async def has_replicas(client: ClickHouseClient, database: str, tables: Sequence[str]) -> bool:
    """Whether one of ``tables`` is replicated. Any user may ask that, and `system.replicas` only some: where
    there are no replicas nobody needs a right to it.
    """
    rows = await client.rows(
        "SELECT 1 FROM system.tables WHERE database = {database:String}\n"
        "    AND name IN {tables:Array(String)} AND startsWith(engine, 'Replicated') LIMIT 1",
        {"database": database, "tables": list(tables)},
    )
    return bool(rows)


@contextlib.asynccontextmanager
async def servers(client: ClickHouseClient, database: str) -> AsyncIterator[list[ClickHouseClient]]:
    """Clients of the servers that have to be changed one by one."""
    if not client.hosts.several or await carries_on(client, database):
        yield [client]
        return
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(client.at(host)) for host in client.hosts.every]


@contextlib.asynccontextmanager
async def keeper_of_the_lock(client: ClickHouseClient, database: str) -> AsyncIterator[ClickHouseClient]:
    """A client of the host that has the lock: the same one for every process, in whichever order its
    CLICKHOUSE_HOST names them.
    """
    if not client.hosts.several or await carries_on(client, database):
        yield client
        return
    async with client.at(min(client.hosts.every, key=str)) as one:
        yield one


async def refuse_unknown_replicas(
    every: Sequence[ClickHouseClient], database: str, tables: Sequence[str]
) -> None:
    """Refuse replicas of ``tables`` on servers that are not among ``every``.

    Raises:
        ConfigurationError: there are some, or the tables are not replicas of each other.
        UnavailableError: a server does not answer.
    """
    replicas: dict[str, list[int]] = {}  # by path: how many each server knows of
    having = 0
    for one in every:
        if not await has_replicas(one, database, tables):
            continue
        rows = await one.rows(
            "SELECT zookeeper_path, total_replicas FROM system.replicas\n"
            "WHERE database = {database:String} AND table IN {tables:Array(String)}",
            {"database": database, "tables": list(tables)},
        )
        having += bool(rows)
        for path, total in rows:
            replicas.setdefault(str(path), []).append(int(total))
    for path, known in replicas.items():
        # One that has just come or gone is not known to each server at once.
        if min(known) > len(known):
            raise ConfigurationError(
                f"{database}.{tables[0]} has {min(known)} replicas ({path}), and CLICKHOUSE_HOST names the "
                f"hosts of {len(known)}: it has to be changed on each",
                setting=_HOST,
                fix="name every host of system.clusters, with commas in between; give up a replica that is "
                "gone for good by SYSTEM DROP REPLICA",
            )
    if having and max(map(len, replicas.values())) < having:
        raise ConfigurationError(
            f"{database}.{tables[0]} is another table on each host: {', '.join(sorted(replicas))}",
            setting=_HOST,
            fix="name only replicas of one table in CLICKHOUSE_HOST, and migrate the others by themselves",
        )


async def fetched(client: ClickHouseClient, database: str, table: str) -> None:
    """Return when the client's server has what ``table`` has on any of its servers.

    Raises:
        UnavailableError: it does not get further.
    """
    if not await has_replicas(client, database, [table]):
        return
    given = {"database": database, "table": table}
    queue = await client.rows(
        "SELECT queue_size FROM system.replicas\n"
        "WHERE database = {database:String} AND table = {table:String}",
        given,
    )
    if not queue:
        return
    least, stuck = int(queue[0][0]), 0
    while True:
        try:
            await sync_replica(client, qualified(database, table), _SYNC_SECONDS)
            return
        except LabelstreamError as error:
            # Also a table that is read-only until its host has another session with the Keeper.
            if code_of(error) == TABLE_MISSING or not isinstance(error, RetryableError):
                raise
            await asyncio.sleep(_PAUSE)
            ((left,),) = await client.rows(
                "SELECT min(queue_size) FROM system.replicas\n"
                "WHERE database = {database:String} AND table = {table:String}",
                given,
            )
            stuck = 0 if int(left) < least else stuck + 1
            least = min(least, int(left))
            if stuck == _STUCK:
                raise UnavailableError(
                    f"{client.hosts.current} cannot fetch what other hosts have of {database}.{table}; "
                    "labelstream init goes on where it was as soon as they are there",
                    setting=_HOST,
                ) from error
