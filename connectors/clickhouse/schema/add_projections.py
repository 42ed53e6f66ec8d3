"""Gives tables of an older release their projections, see `projections.py`."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.errors import SERVERS_FAULT, code_of
from connectors.clickhouse.client.sql import qualified, quoted
from connectors.clickhouse.schema.placement import PLAIN, Placement
from connectors.clickhouse.schema.projections import MODES
from connectors.clickhouse.schema.tables import PROJECTIONS, STORED, stored_table
from streams.core.errors import LabelstreamError, RetryableError

log = structlog.get_logger()


async def create_stored_table(
    client: ClickHouseClient, database: str, table: str, placement: Placement = PLAIN
) -> None:
    """Make the table, without projections on a server that cannot have them.

    Raises:
        LabelstreamError: it cannot be made either way.
    """
    try:
        await client.command(stored_table(database, table, placement))
    except LabelstreamError as error:
        if _is_away(error):
            raise
        await client.command(stored_table(database, table, placement, projections=False))
        _tell(table, error)


async def add_projections(client: ClickHouseClient, database: str, tables: Sequence[str]) -> None:
    """Add the projections that ``tables`` lack. The server makes them for what is stored already, in the
    background.

    A server or a user that cannot have them does without: queries take longer, which is logged.

    Raises:
        UnavailableError: ClickHouse does not answer.
    """
    for table in tables:
        try:
            await _add(client, database, table)
        except LabelstreamError as error:
            if _is_away(error):
                raise
            _tell(table, error)


async def missing_projections(client: ClickHouseClient, database: str) -> list[str]:
    """The stored tables that lack a projection; `init` adds it.

    Raises:
        UnavailableError: ClickHouse does not answer.
    """
    missing = []
    for table in STORED:
        made = await _made(client, database, table)
        if made is not None and not PROJECTIONS[table].keys() <= made:
            missing.append(table)
    return missing


async def _add(client: ClickHouseClient, database: str, table: str) -> None:
    made = await _made(client, database, table)
    if made is None:
        return
    new = {name: select for name, select in PROJECTIONS[table].items() if name not in made}
    if new:
        for statement in _statements(database, table, new):
            await client.command(statement)
    for name in PROJECTIONS[table]:
        # Also those that an `init` before this one has added, and was killed.
        if await _is_owed(client, database, table, name):
            log.info("projection_is_made", table=table, projection=name)
            await client.command(
                f"ALTER TABLE {qualified(database, table)} MATERIALIZE PROJECTION {quoted(name)}"
            )


async def _made(client: ClickHouseClient, database: str, table: str) -> set[str] | None:
    """The names of those that the table declares; None if there is no table."""
    rows = await client.rows(
        "SELECT create_table_query FROM system.tables\n"
        "WHERE database = {database:String} AND name = {table:String}",
        {"database": database, "table": table},
    )
    if not rows:
        return None
    return {name for name in PROJECTIONS[table] if f"PROJECTION {name} " in str(rows[0][0])}


async def _is_owed(client: ClickHouseClient, database: str, table: str, name: str) -> bool:
    """Whether a part lacks it, and no mutation is about to make it."""
    given = {"database": database, "table": table, "name": name}
    lacking = await client.rows(
        "SELECT count() FROM system.parts WHERE active AND database = {database:String}\n"
        "    AND table = {table:String} AND NOT has(projections, {name:String})",
        given,
    )
    if not int(lacking[0][0]):
        return False
    return not await client.rows(
        "SELECT 1 FROM system.mutations WHERE NOT is_done AND database = {database:String}\n"
        "    AND table = {table:String} AND command LIKE '%MATERIALIZE PROJECTION%'\n"
        "    AND position(command, {name:String}) > 0",
        given,
    )


def _statements(database: str, table: str, projections: dict[str, str]) -> list[str]:
    name = qualified(database, table)
    return [
        f"ALTER TABLE {name} MODIFY SETTING {MODES}",
        *(
            f"ALTER TABLE {name} ADD PROJECTION IF NOT EXISTS {quoted(projection)} (\n    {select}\n)"
            for projection, select in projections.items()
        ),
    ]


def _is_away(error: LabelstreamError) -> bool:
    """Whether the same may work later; an old server's refusal has a code that says nothing of that."""
    code = code_of(error)
    return isinstance(error, RetryableError) and (code is None or code in SERVERS_FAULT)


def _tell(table: str, error: LabelstreamError) -> None:
    log.warning(
        "projections_not_made",
        table=table,
        reason=str(error)[:300],
        effect="queries over all rows of the table take longer, the more the larger it is",
        fix="labelstream init with a user who may ALTER the table, on ClickHouse 24.8 or newer",
    )
