"""Writes and reads `audit_log`."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import quoted, result_table
from connectors.clickhouse.schema.columns import columns_of
from connectors.clickhouse.schema.tables import AUDIT
from streams.core.settings import Settings
from streams.core.times import moment
from streams.ports.audit import LOOK, AuditEntry

_NAMES = tuple(column.name for column in columns_of(AuditEntry))


async def write_audit(client: ClickHouseClient, settings: Settings, entries: Sequence[AuditEntry]) -> None:
    """Insert ``entries``.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    columns = [[getattr(entry, name) for entry in entries] for name in _NAMES]
    await client.insert(AUDIT, _NAMES, columns, database=settings.result_database)


async def read_audit(
    client: ClickHouseClient, settings: Settings, limit: int, *, looks: bool = True
) -> list[AuditEntry]:
    """At most ``limit``, the newest first; without ``looks`` those that only looked at a row are left out.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    names = [name for name in _NAMES if name != "at"]
    rows = await client.rows(
        f"SELECT toUnixTimestamp64Micro(at), {', '.join(quoted(name) for name in names)}\n"
        f"FROM {result_table(settings, AUDIT)}{'' if looks else ' WHERE action != {look:String}'}\n"
        "ORDER BY at DESC LIMIT {most:UInt32}",
        {"most": limit, "look": LOOK},
    )
    return [AuditEntry(at=moment(int(at)), **dict(zip(names, others, strict=True))) for at, *others in rows]
