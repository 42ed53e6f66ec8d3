"""Checks whether the result tables exist, keep what is written, and may be written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.errors import code_of
from connectors.clickhouse.client.sql import result_table
from connectors.clickhouse.schema.tables import (
    ANSWERS,
    AUDIT,
    CURRENT,
    ERASURES,
    LABELED,
    STORED,
    VERSIONS,
)
from streams.core.errors import AccessError, ConfigurationError, LabelstreamError
from streams.core.settings import Settings

_EVERY = (*STORED, VERSIONS, AUDIT, ANSWERS, ERASURES)
_UNKNOWN_STATEMENT = {62, 48}  # servers before 24.11 have no CHECK GRANT


# What a role with a user of its own needs, where that is less than SELECT and INSERT on all of them.
_OF_ROLE: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    # They note the version that they label under, and compare what people judged first; the watch of the
    # endpoint draws texts.
    "agents": (("SELECT, INSERT", (VERSIONS,)), ("SELECT", (LABELED, ANSWERS, ERASURES))),
    "poller": (("SELECT", _EVERY),),
    "sink": (("SELECT, INSERT", tuple(STORED)), ("SELECT", (ERASURES,))),
}


async def refuse_missing_rights_of(client: ClickHouseClient, settings: Settings, role: str) -> str:
    """Ask the server whether the user has what ``role`` needs on the result tables. Returns that in words.

    Raises:
        AccessError: names the table and the right.
        ConfigurationError: one of the tables is missing, or cannot be used.
    """
    every = _OF_ROLE.get(role, (("SELECT, INSERT", _EVERY),))
    for rights, tables in every:
        await refuse_missing_rights(client, settings, rights, tables)
    names = [table for _, tables in every for table in tables]
    engines = dict(
        await client.rows(
            "SELECT name, engine FROM system.tables\n"
            "WHERE database = {database:String} AND name IN {names:Array(String)}",
            {"database": settings.result_database, "names": names},
        )
    )
    if missing := [table for table in names if table not in engines]:
        raise ConfigurationError(
            f"missing in {settings.result_database}: {', '.join(missing)}",
            setting="CLICKHOUSE_RESULT_DATABASE",
            fix="make them: labelstream init",
        )
    refuse_engines(settings.result_database, {str(name): str(engine) for name, engine in engines.items()})
    # Whoever asks what is stored lets the host fetch it first.
    replicated = [table for table in names if str(engines[table]).startswith("Replicated")]
    await refuse_missing_rights(client, settings, "SYSTEM SYNC REPLICA", replicated)
    return "; ".join(f"{rights} on {', '.join(tables)}" for rights, tables in every)


async def missing_tables(client: ClickHouseClient, settings: Settings) -> list[str]:
    """The result tables and views that are missing."""
    rows = await client.rows(
        "SELECT name FROM system.tables WHERE database = {database:String}",
        {"database": settings.result_database},
    )
    found = {name for (name,) in rows}
    return [name for name in (*_EVERY, CURRENT) if name not in found]


def refuse_engines(database: str, engines: Mapping[str, str]) -> None:
    """Refuse result tables that do not keep their rows themselves. ``engines``: of tables and view, by name.

    Raises:
        ConfigurationError: it names them and their engines.
    """
    other = {
        name: engine
        for name, engine in engines.items()
        if not (engine == "View" if name == CURRENT else engine.endswith("MergeTree"))
    }
    if not other:
        return
    told = ", ".join(f"{name} ({engine})" for name, engine in other.items())
    raise ConfigurationError(
        f"{told} in {database} cannot be used: an insert into such a table is kept elsewhere, perhaps in "
        "several parts and later, and what was stored of it cannot be known by asking one host",
        setting="CLICKHOUSE_RESULT_DATABASE",
        fix="rename them, then labelstream init makes tables that every host has; INSERT SELECT their rows. "
        "Or name another database here, and keep yours for reading",
    )


async def refuse_missing_rights(
    client: ClickHouseClient,
    settings: Settings,
    rights: str = "SELECT, INSERT",
    tables: Iterable[str] = _EVERY,
) -> None:
    """Ask the server whether the user has ``rights`` on the result ``tables``.

    Raises:
        AccessError: names the table and the right.
    """
    for table in tables:
        name = result_table(settings, table)
        try:
            rows = await client.rows(f"CHECK GRANT {rights} ON {name}")
        except LabelstreamError as error:
            if code_of(error) in _UNKNOWN_STATEMENT:
                return
            raise
        if rows and not int(rows[0][0]):
            raise AccessError(
                f"{settings.clickhouse_username} may not {rights} on {settings.result_database}.{table}",
                setting="CLICKHOUSE_USERNAME",
                fix=f"GRANT {rights} ON {settings.result_database}.* TO the user",
            )
