"""Copies rows of a stored table into another one like it, in slices, each message once.

A slice is a range of `created_at`, which the tables are sorted by, so that a statement takes seconds. Each
statement skips what the other table holds, so a copy can be repeated. All carry the same query id, of which a
server runs one statement at a time: one whose client was killed or gave up ends before the next one looks.

Before that there must be room for the copy, and no mutation in progress.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.errors import RUNNING, code_of
from connectors.clickhouse.client.sql import quoted
from streams.core.errors import AccessError, ConfigurationError, LabelstreamError, RetryableError

log = structlog.get_logger()

SLICE_ROWS = 250_000
_TRIES, _PAUSE = 10, 1.0
_SETTING = "CLICKHOUSE_RESULT_DATABASE"
_ROOM = 1.2
_SAY_ROWS = 10_000_000
_MICROS = "fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')"
# One part a slice, and not more memory than some of these blocks.
_SETTINGS = (
    f"max_threads = 2, max_insert_threads = 1, min_insert_block_size_rows = {SLICE_ROWS}, "
    "min_insert_block_size_bytes = 134217728, insert_deduplicate = 0"
)


def slice_statement(
    database: str, source: str, target: str, columns: Sequence[str], key: str, where: str
) -> str:
    """The statement that copies the rows ``where``, except those whose ``key`` is in ``target``."""
    names = ", ".join(quoted(name) for name in columns)
    return (
        f"INSERT INTO {quoted(database)}.{quoted(target)} ({names})\n"
        f"SELECT {names} FROM {quoted(database)}.{quoted(source)}\n"
        f"WHERE {where}\n    AND ({key}) NOT IN (\n"
        f"        SELECT {key} FROM {quoted(database)}.{quoted(target)} WHERE {where}\n    )\n"
        f"SETTINGS {_SETTINGS}"
    )


class RowCopy:
    """Copies ``columns`` between two tables of ``database``. ``key``: the columns that identify a row."""

    def __init__(
        self,
        client: ClickHouseClient,
        database: str,
        columns: Sequence[str],
        key: str,
        *,
        slice_rows: int = SLICE_ROWS,
    ) -> None:
        self._client = client
        self._database = database
        self._columns = columns
        self._key = key
        self._slice_rows = slice_rows

    async def copy(self, source: str, target: str, since: float | None = None) -> None:
        """Copy what ``target`` does not hold. ``since``: only rows stored since then, in seconds since 1970.

        Raises:
            UnavailableError, OverloadedError: after some tries; run it again.
            ConfigurationError, PermanentError: as the client.
        """
        statements = dict[str, str]()
        said = seen = 0
        async for where, given, rows in self._slices(source, since):
            if where not in statements:
                statements[where] = slice_statement(
                    self._database, source, target, self._columns, self._key, where
                )
            await self._run(statements[where], given)
            seen += rows
            if seen - said >= _SAY_ROWS:
                said = seen
                log.info("rows_copied", source=source, target=target, rows=seen)

    async def _run(self, statement: str, given: dict[str, Any]) -> None:
        tries = 0
        while True:
            try:
                await self._client.command(
                    statement, given, query_id=f"labelstream-init/{self._database}/copy"
                )
                return
            except LabelstreamError as error:
                if code_of(error) != RUNNING:
                    tries += 1
                    if tries == _TRIES or not isinstance(error, RetryableError):
                        raise
            await asyncio.sleep(_PAUSE)

    async def _slices(
        self, source: str, since: float | None
    ) -> AsyncIterator[tuple[str, dict[str, Any], int]]:
        """Conditions with their parameters, and the number of rows of each; together they cover every row."""
        given: dict[str, Any] = {} if since is None else {"since": int(since * 1000)}
        recent = "" if since is None else " AND _stored_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')"
        between = (
            f"created_at >= {_MICROS.format(name='first')} AND created_at <= {_MICROS.format(name='last')}"
        )
        first = -(2**62)
        while True:
            count, low, high = await self._ahead(source, first, recent, given)
            if not count:
                return
            if count < self._slice_rows:
                yield between + recent, given | {"first": low, "last": high}, count
                return
            if low < high:
                # More rows than these may have the last of these times.
                yield between + recent, given | {"first": low, "last": high - 1}, count
                first = high
                continue
            ((rows,),) = await self._client.rows(
                f"SELECT count() FROM {self._name(source)} WHERE {between}{recent}",
                given | {"first": low, "last": low},
            )
            parts = -(-int(rows) // self._slice_rows)
            for part in range(parts):
                bucket = " AND cityHash64(row_id) % {parts:UInt64} = {part:UInt64}"
                of = {"first": low, "last": low, "parts": parts, "part": part}
                yield between + recent + bucket, given | of, int(rows) // parts
            first = low + 1

    async def _ahead(
        self, source: str, first: int, recent: str, given: dict[str, Any]
    ) -> tuple[int, int, int]:
        """Of the next rows, at most a slice: how many, the first and the last time in microseconds."""
        begin = "1" if first == -(2**62) else f"created_at >= {_MICROS.format(name='first')}"
        ((count, low, high),) = await self._client.rows(
            "SELECT count(), min(at), max(at) FROM (\n"
            f"    SELECT toUnixTimestamp64Micro(created_at) AS at FROM {self._name(source)}\n"
            f"    WHERE {begin}{recent} ORDER BY created_at LIMIT {{most:UInt64}}\n)",
            given | {"first": first, "most": self._slice_rows},
        )
        return int(count), int(low), int(high)

    def _name(self, table: str) -> str:
        return f"{quoted(self._database)}.{quoted(table)}"


async def refuse_no_room(client: ClickHouseClient, database: str, table: str) -> None:
    """A copy that fills the disk would also stop the sinks.

    Raises:
        ConfigurationError: the disks that the table is on have too little room for a copy of it.
    """
    try:
        ((size, disks),) = await client.rows(
            "SELECT sum(bytes_on_disk), groupUniqArray(disk_name) FROM system.parts\n"
            "WHERE active AND database = {database:String} AND table = {table:String}",
            {"database": database, "table": table},
        )
        ((free,),) = await client.rows(
            "SELECT sum(free_space) FROM system.disks WHERE name IN {names:Array(String)}",
            {"names": list(disks)},
        )
    except AccessError:
        return  # no right to look
    needed = int(size) * _ROOM
    if disks and needed > int(free):
        raise ConfigurationError(
            f"{database}.{table} has to be copied: that takes {needed / 1e9:.1f} GB, and "
            f"{int(free) / 1e9:.1f} GB are free",
            setting=_SETTING,
            fix="make room on ClickHouse's disks, then run labelstream init again",
        )


async def mutations_ended(client: ClickHouseClient, database: str, table: str) -> None:
    """Wait until the table has no unfinished mutation.

    Raises:
        ConfigurationError: one of them fails.
    """
    said = False
    while rows := await client.rows(
        "SELECT command, latest_fail_reason FROM system.mutations\n"
        "WHERE NOT is_done AND NOT is_killed AND database = {database:String} AND table = {table:String}",
        {"database": database, "table": table},
    ):
        for command, reason in rows:
            if reason:
                raise ConfigurationError(
                    f"a mutation of {database}.{table} fails: {command}: {reason}",
                    setting=_SETTING,
                    fix="end it by KILL MUTATION, or mend it, then run labelstream init again",
                )
        if not said:
            log.info("waiting_for_mutations", table=table, mutations=[command for command, _ in rows])
            said = True
        await asyncio.sleep(_PAUSE)
