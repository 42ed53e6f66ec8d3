"""What the other replicas have acknowledged is fetched before it is looked for.

An insert that one replica has acknowledged is not on the others yet. SYSTEM SYNC REPLICA waits until the host
that is asked has everything that the Keeper's log has. A part that only a dead host holds keeps it waiting,
until that host is back or somebody gives it up: before that nobody can know what is stored.

The host may also have what the log does not have. Where it lost the Keeper at the end of an insert, it shows
the rows of that insert, and removes them minutes later if the Keeper never got to know of them. Until then
the part waits to be checked, and the host is not asked.
"""

from __future__ import annotations

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.errors import code_of
from connectors.clickhouse.client.hosts import Host
from connectors.clickhouse.client.sql import qualified
from streams.core.errors import LabelstreamError, UnavailableError

# How long one host is waited for; then the next is asked.
_SECONDS = 5
_SYNTAX = 62
REPLICATED, SHARED = "Replicated", "Shared"


async def engine_of(client: ClickHouseClient, database: str, table: str) -> str:
    """The table's engine; "" for no table.

    Raises:
        UnavailableError, AccessError: as the client.
    """
    rows = await client.rows(
        "SELECT engine FROM system.tables WHERE database = {database:String} AND name = {table:String}",
        {"database": database, "table": table},
    )
    return str(rows[0][0]) if rows else ""


async def catch_up(client: ClickHouseClient, database: str, table: str, engine: str | None = None) -> str:
    """Let the current host fetch what ``table`` has anywhere. Returns the SETTINGS, or nothing, that a query
    has to end with to read it. ``engine``: if it is known.

    Raises:
        UnavailableError: it cannot now; the next try asks another host.
        AccessError: the user may not SYSTEM SYNC REPLICA, or not read system.replicas.
    """
    if engine is None:
        engine = await engine_of(client, database, table)
    if engine.startswith(SHARED):
        return "\nSETTINGS select_sequential_consistency = 1"
    if engine.startswith(REPLICATED):
        host = client.hosts.current
        try:
            await sync_replica(client, qualified(database, table), _SECONDS)
            await _refuse_unknown_parts(client, database, table, host)
        except UnavailableError as error:
            client.hosts.leave(host, str(error))
            raise
    return ""


async def _refuse_unknown_parts(client: ClickHouseClient, database: str, table: str, host: Host) -> None:
    rows = await client.rows(
        "SELECT parts_to_check FROM system.replicas\n"
        "WHERE database = {database:String} AND table = {table:String}",
        {"database": database, "table": table},
    )
    if rows and int(rows[0][0]):
        raise UnavailableError(
            f"{host} shows parts of {database}.{table} of which it is not known whether they are stored; it "
            "checks them when they are five minutes old",
            setting="CLICKHOUSE_HOST",
        )


async def sync_replica(client: ClickHouseClient, name: str, seconds: int) -> None:
    """Have the current host fetch what the table ``name`` has anywhere.

    Raises:
        UnavailableError: it has not in so many ``seconds``.
        AccessError: the user may not SYSTEM SYNC REPLICA.
    """
    settings = {"receive_timeout": seconds}
    try:
        await client.command(f"SYSTEM SYNC REPLICA {name} LIGHTWEIGHT", settings=settings)
    except LabelstreamError as error:
        if code_of(error) != _SYNTAX:
            raise
        # Servers before 23.4. It waits for merges too.
        await client.command(f"SYSTEM SYNC REPLICA {name}", settings=settings)
