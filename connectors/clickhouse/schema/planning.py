"""Writes down the statements that `init` would run, instead of running them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.hosts import Host
from connectors.clickhouse.client.sql import literal
from connectors.clickhouse.schema.migration_log import DONE, MIGRATIONS, MigrationLog
from connectors.clickhouse.schema.migrations import ALL, Migration, pending


class PlanningClient(ClickHouseClient):
    """Reads as usual, and keeps each statement that would change something in ``statements``."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._where = ""
        self.statements: list[str] = []

    def at(self, host: Host) -> Self:
        one = super().at(host)
        one.statements, one._where = self.statements, f"-- on {host}"
        return one

    async def command(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        query_id: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Any:
        for name, value in (parameters or {}).items():
            shown = literal(value) if isinstance(value, str) else str(value)
            sql = re.sub(rf"\{{{name}:\w+\}}", lambda _, shown=shown: shown, sql)  # type: ignore[misc]
        self.statements += [self._where, sql] if self._where else [sql]


async def plan_migrations(client: PlanningClient, database: str) -> Sequence[Migration]:
    """Have ``client`` write down what `migrate` would run."""
    for one in await pending(client, database):
        client.statements += [f"-- migration {one.version}: {one.name}", *one.statements(database)]
    found = await client.rows(
        "SELECT 1 FROM system.tables WHERE database = {database:String} AND name = {name:String}",
        {"database": database, "name": MIGRATIONS},
    )
    history = MigrationLog(client, database)
    noted = await history.done() if found else set()
    for one in ALL:
        if one.version not in noted:
            await history.write(one.version, one.name, DONE)
    return []
