"""Replaces a table by a copy with another sorting key, while sinks insert into it.

There are up to three tables:

- the table itself,
- `TABLE__next`: it has the new key, and rows are copied into it,
- `TABLE__former`: the one with the old key, after the two have exchanged names. Rows that it still
  received are copied, deletions are repeated, and then it is dropped.

A client inserts by name, and an insert that has begun ends in the table that had the name then. So the
former table may receive rows after the exchange, for as long as an insert may take.

A replicated table has them on each of its servers, which exchange the names one after the other. Meanwhile
sinks on one server insert into the new table, and those on another one into the old: as those rows that came
late, they are copied before the old one is dropped.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.errors import code_of
from connectors.clickhouse.client.sql import quoted
from connectors.clickhouse.schema.copy_rows import RowCopy, mutations_ended, refuse_no_room
from connectors.clickhouse.schema.migration_log import BEGUN, EXCHANGED, MigrationLog
from connectors.clickhouse.schema.replica_servers import carries_on, fetched, has_replicas
from connectors.clickhouse.schema.schema_lock import SchemaLock
from connectors.clickhouse.schema.tables import INSERT_SECONDS, columns_in, new_engine, with_place
from streams.core.errors import LabelstreamError, RetryableError

log = structlog.get_logger()

_NOT_IMPLEMENTED, _TOO_LARGE_TO_DROP = 48, 359
# The copy is repeated for the rows stored meanwhile, until that takes no longer than this, or this often.
_SHORT_SECONDS, _PASSES = 2.0, 5
# `_stored_at` is when the insert began, and the row is visible later; the server's clock may be set back.
_MARGIN_SECONDS = 60.0
_DELETION = re.compile(r"(?:DELETE|UPDATE `?_row_exists`? = 0) WHERE (.*)", re.DOTALL)
_AGAIN = "_stored_at <= fromUnixTimestamp64Milli("  # in every deletion that was repeated here


class Names(NamedTuple):
    """The names of the three tables."""

    table: str
    following: str
    former: str


@dataclass(frozen=True)
class ServerTable:
    """A table as the server describes it."""

    engine: str
    engine_full: str
    key: str


class TableReplacement:
    """The steps. Each may be interrupted at any moment and be run again by the next process."""

    def __init__(
        self,
        servers: Sequence[ClickHouseClient],
        database: str,
        names: Names,
        lock: SchemaLock,
        history: MigrationLog,
        version: int,
        title: str,
        *,
        slice_rows: int,
        settle_seconds: float,
    ) -> None:
        """``servers``: those that the step is due on. Rows are copied on the first."""
        self._servers = servers
        self._client = servers[0]
        self._database = database
        self._names = names
        self._lock = lock
        self._history = history
        self._version = version
        self._title = title
        self._slice_rows = slice_rows
        self._settle_seconds = settle_seconds

    async def create(self, found: dict[str, ServerTable]) -> None:
        """Create the next table, with the columns, settings and TTL that somebody added to this one."""
        table = found[self._names.table]
        for one in self._servers:
            await refuse_no_room(one, self._database, self._names.table)
            await fetched(one, self._database, self._names.table)
        # Deletions from now on are repeated on the copy; earlier ones must have ended.
        await self._history.write(self._version, self._title, BEGUN)
        await mutations_ended(self._client, self._database, self._names.table)
        path = await self._keeper_path()
        engine = new_engine(table.engine_full, table.key, f"{path}__{self._version}" if path else "")
        for one in self._servers:
            await one.command(
                f"CREATE TABLE {self._path(self._names.following)} AS {self._path(self._names.table)} "
                f"ENGINE = {engine}"
            )

    async def exchange(self, found: dict[str, ServerTable]) -> None:
        """Copy all rows into the next table, then those stored meanwhile, and exchange the names."""
        table, following, _ = self._names
        if await self._columns(table) != await self._columns(following):
            # Another release created it: copy back what only it may have, and begin again.
            common = [name for name in await self._columns(following) if name in await self._columns(table)]
            await self._copy(found, table, common).copy(following, table)
            await self._drop(following)
            return
        copy = self._copy(found, table, await self._columns(table))
        since: float | None = None
        for _ in range(_PASSES):
            begun, clock = time.monotonic(), await self._clock()
            await fetched(self._client, self._database, table)
            await copy.copy(table, following, since)
            if since is not None and time.monotonic() - begun < _SHORT_SECONDS:
                break
            since = clock - _MARGIN_SECONDS
        for one in self._servers:
            await fetched(one, self._database, following)
        await self._history.write(self._version, self._title, EXCHANGED)
        await self.exchange_names(found)

    async def exchange_names(self, found: dict[str, ServerTable]) -> None:
        """Exchange the names of this and the next table."""
        table, following, former = map(self._path, self._names)
        for one in self._servers:
            await self._lock.hold()
            try:
                await one.command(f"EXCHANGE TABLES {table} AND {following}")
            except LabelstreamError as error:
                if code_of(error) != _NOT_IMPLEMENTED:
                    raise
                # It can only rename one after the other. Sinks repeat inserts that fail in between.
                await one.command(f"RENAME TABLE {table} TO {former}, {following} TO {table}")

    async def retire(self, found: dict[str, ServerTable]) -> None:
        """The next table becomes the former one. A late EXCHANGE of another process cannot find it then."""
        await self._rename(self._names.following, self._names.former)

    async def recall(self, found: dict[str, ServerTable]) -> None:
        """The former table becomes the next one."""
        await self._rename(self._names.former, self._names.following)

    async def adopt(self, found: dict[str, ServerTable]) -> None:
        """The next table gets the name, which no table has."""
        await self._rename(self._names.following, self._names.table)

    async def restore(self, found: dict[str, ServerTable]) -> None:
        """The former table gets its name back, which no table has."""
        await self._rename(self._names.former, self._names.table)

    async def finish(self, found: dict[str, ServerTable]) -> None:
        """Copy what only the former table has, repeat deletions, then drop it."""
        table, _, former = self._names
        copy = self._copy(found, former, await self._columns(former))
        exchanged = await self._history.last(self._version, EXCHANGED)
        since = exchanged / 1e6 - _MARGIN_SECONDS
        await self._both_fetched()
        await copy.copy(former, table, since)  # at once: readers miss these rows
        await asyncio.sleep(self._settle_seconds)
        await self._both_fetched()
        await copy.copy(former, table, since)
        await copy.copy(former, table)  # all, whatever a clock said
        await self._delete_again()
        await self._merge_doubles(found[former], exchanged / 1e6 - INSERT_SECONDS)
        await self._drop(former)

    async def _both_fetched(self) -> None:
        """The first server has what sinks on the others have stored, in either table."""
        await fetched(self._client, self._database, self._names.former)
        await fetched(self._client, self._database, self._names.table)

    async def _keeper_path(self) -> str:
        """The table's path in the Keeper; "" for a table without, and where the database gives it."""
        if not await has_replicas(self._client, self._database, [self._names.table]):
            return ""
        rows = await self._client.rows(
            "SELECT zookeeper_path FROM system.replicas\n"
            "WHERE database = {database:String} AND table = {table:String}",
            {"database": self._database, "table": self._names.table},
        )
        return "" if not rows or await carries_on(self._client, self._database) else str(rows[0][0])

    def _copy(self, found: dict[str, ServerTable], source: str, columns: list[str]) -> RowCopy:
        return RowCopy(
            self._client,
            self._database,
            columns,
            ", ".join(with_place(columns_in(found[source].key))),
            slice_rows=self._slice_rows,
        )

    async def _columns(self, table: str) -> list[str]:
        rows = await self._client.rows(
            "SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String}\n"
            "    AND default_kind NOT IN ('ALIAS', 'MATERIALIZED', 'EPHEMERAL') ORDER BY position",
            {"database": self._database, "table": table},
        )
        return [str(name) for (name,) in rows]

    async def _clock(self) -> float:
        """The server's clock, seconds since 1970."""
        ((micros,),) = await self._client.rows("SELECT toUnixTimestamp64Micro(now64(6))")
        return int(micros) / 1e6

    async def _delete_again(self) -> None:
        """Repeat the deletions since the copy began, in either table: a row may have been copied before its
        deletion, or after its deletion in the new table."""
        begun = await self._history.last(self._version, BEGUN) // 1_000_000
        rows = await self._client.rows(
            "SELECT command, max(toUnixTimestamp(create_time)) AS created FROM system.mutations\n"
            "WHERE database = {database:String} AND table IN {tables:Array(String)}\n"
            "    AND toUnixTimestamp(create_time) >= {begun:Int64} GROUP BY command\n"
            "ORDER BY created, command",
            {
                "database": self._database,
                "tables": [self._names.table, self._names.former],
                "begun": begun,
            },
        )
        for command, created in rows:
            if _AGAIN in command:
                continue
            plain = command[1:-1] if command.startswith("(") else command
            deletion = _DELETION.fullmatch(plain)
            if deletion is None:
                log.warning("mutation_not_repeated", table=self._names.table, command=plain[:300])
                continue
            # Rows that were stored after the deletion stay. Its time is given in whole seconds.
            before = f"{_AGAIN}{(int(created) + 1) * 1000}, 'UTC')"
            await self._client.command(
                f"ALTER TABLE {self._path(self._names.table)} DELETE WHERE ({deletion[1]}) AND {before} "
                "SETTINGS mutations_sync = 0"
            )

    async def _merge_doubles(self, former: ServerTable, since: float) -> None:
        """A sink that started just then may have found a message missing, and stored it beside the copy."""
        key = ", ".join(with_place(columns_in(former.key)))
        ((doubled,),) = await self._client.rows(
            f"SELECT count() FROM (\n    SELECT 1 FROM {self._path(self._names.table)}\n"
            f"    WHERE ({key}) IN (SELECT {key} FROM {self._path(self._names.former)}\n"
            "        WHERE _stored_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC'))\n"
            f"    GROUP BY {key} HAVING count() > 1\n)",
            {"since": int(since * 1000)},
        )
        if int(doubled):
            log.info("merging_doubles", table=self._names.table, messages=int(doubled))
            try:
                await self._client.command(f"OPTIMIZE TABLE {self._path(self._names.table)} FINAL")
            except RetryableError as error:
                log.warning("doubles_wait_for_a_merge", table=self._names.table, reason=str(error)[:300])

    async def _drop(self, name: str) -> None:
        # Of a replicated table the Keeper forgets the replica at once: a table of this path may be made anew.
        statement = f"DROP TABLE {self._path(name)}" + (" SYNC" if len(self._servers) > 1 else "")
        for one in self._servers:
            await self._lock.hold()
            try:
                await one.command(statement)
            except LabelstreamError as error:
                if code_of(error) != _TOO_LARGE_TO_DROP:
                    raise
                # A limit against mistakes. Older servers lack the setting; their error says what to do.
                await one.command(f"{statement} SETTINGS max_table_size_to_drop = 0")

    async def _rename(self, name: str, other: str) -> None:
        for one in self._servers:
            await self._lock.hold()
            await one.command(f"RENAME TABLE {self._path(name)} TO {self._path(other)}")

    def _path(self, name: str) -> str:
        return f"{quoted(self._database)}.{quoted(name)}"
