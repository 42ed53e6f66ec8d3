"""RESULT_RETENTION_DAYS: how long the result tables keep what they store, as the tables' TTL.

It counts from when a line was stored, not from the row's own time: an old row that is filled in today stays
as long as one of today. So the sink finds every message that Kafka still has, and a correction never goes
before what it corrects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import qualified
from connectors.clickhouse.schema.tables import ANSWERS, AUDIT, STORED
from streams.core.settings import Settings

log = structlog.get_logger()

# The versions, the audit log and the list of erasures stay; of the audit log only what it was done to goes.
_SINCE = {**dict.fromkeys(STORED, "_stored_at"), ANSWERS: "answered_at", AUDIT: "at"}
_BLANKED = {AUDIT: "target"}
_TTL = re.compile(r"\bTTL toDateTime\(\w+\) \+ toIntervalDay\((\d+)\)")


def retention_statements(settings: Settings) -> list[str]:
    """What sets the tables' TTL, for people to run; none where everything is kept."""
    days = settings.result_retention_days
    return [_statement(settings, table, days) for table in _SINCE] if days else []


def changing_statements(settings: Settings, other: Iterable[tuple[str, int]]) -> list[str]:
    """What gives the tables of `other_retention` the TTL of the settings, for people to run."""
    return [_statement(settings, table, settings.result_retention_days) for table, _ in other]


async def set_retention(client: ClickHouseClient, settings: Settings) -> None:
    """Change the TTL of the tables that have another one. The server deletes in the background, within hours.

    Raises:
        UnavailableError, AccessError: as the client.
    """
    for table, days in await other_retention(client, settings):
        await client.command(_statement(settings, table, settings.result_retention_days))
        log.info("retention_changed", table=table, days=settings.result_retention_days, before=days)


async def other_retention(client: ClickHouseClient, settings: Settings) -> list[tuple[str, int]]:
    """The tables whose TTL is not that of the settings, and their days, 0 without one."""
    rows = await client.rows(
        "SELECT name, engine_full, create_table_query FROM system.tables WHERE database = {database:String}",
        {"database": settings.result_database},
    )
    made = {
        str(name): _days_in(str(query).partition(" ENGINE = ")[0] if name in _BLANKED else str(engine))
        for name, engine, query in rows
        if name in _SINCE
    }
    return [(table, days) for table, days in made.items() if days != settings.result_retention_days]


def _days_in(engine: str) -> int:
    found = _TTL.search(engine)
    return int(found[1]) if found else 0


def _statement(settings: Settings, table: str, days: int) -> str:
    name = qualified(settings.result_database, table)
    what = f"MODIFY COLUMN {_BLANKED[table]} String " if table in _BLANKED else ""
    if not days:
        return f"ALTER TABLE {name} {what.removesuffix('String ')}REMOVE TTL"
    ttl = f"TTL toDateTime({_SINCE[table]}) + toIntervalDay({int(days)})"
    return f"ALTER TABLE {name} {what or 'MODIFY '}{ttl}"
