"""The source table: any column names, read in order of (time, tie), page by page."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import given
from connectors.clickhouse.source.shape import Shape, shape_of
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings

PAGE_ROWS = 10_000
PAGE_BYTES = 16_000_000  # about; a page has fewer rows where they are long
_ROW_BYTES = 200  # without its text
# Date holds days from 1970 on.
_MOST_DAYS = 20_000


class SourceRow(NamedTuple):
    """A row as the table holds it. ``micros``: its time in microseconds since 1970, UTC. ``tie`` orders
    rows of one time: the id, or a hash of user and text."""

    micros: int
    tie: bytes
    id: bytes | None
    text: bytes | None
    user: bytes | None
    session: bytes | None
    domain: bytes | None


class NextRows(NamedTuple):
    """How many ``rows`` come next. ``first``, ``last``: times, microseconds since 1970. ``size``: about how
    many bytes. ``full``: there may be more of them."""

    rows: int
    first: int
    last: int
    size: int
    full: bool


class SourceTable:
    """Reads; never writes."""

    def __init__(self, client: ClickHouseClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._shape: Shape | None = None

    @property
    def name(self) -> str:
        """Database and table."""
        return self._settings.source_table

    async def inspect(self) -> dict[str, str]:
        """Find the columns. Returns the table's columns with their types.

        Raises:
            ConfigurationError: no such table or column, or a column of a type that cannot serve.
        """
        settings = self._settings
        found = dict(
            await self._client.rows(
                "SELECT name, type FROM system.columns "
                "WHERE database = {db:String} AND table = {table:String}",
                {"db": settings.clickhouse_database, "table": settings.clickhouse_table},
            )
        )
        if not found:
            raise ConfigurationError(
                f"there is no table {self.name}, or the user may not see it",
                setting="CLICKHOUSE_TABLE",
                fix="set CLICKHOUSE_DATABASE and CLICKHOUSE_TABLE to the table with the queries",
            )
        self._shape = shape_of(settings, found)
        return found

    async def now(self) -> int:
        """The server's clock, in microseconds since 1970."""
        rows = await self._client.rows("SELECT toUnixTimestamp64Micro(now64(6))")
        return int(rows[0][0])

    async def without_time(self) -> int:
        """Rows whose time is NULL: they have no place in any order and cannot be followed."""
        shape = await self._known()
        if shape.timed_always:
            return 0
        rows = await self._client.rows(f"SELECT count() FROM {shape.table} WHERE {shape.time} IS NULL")
        return int(rows[0][0])

    async def sample(self) -> None:
        """Read one row, to see that the user may."""
        shape = await self._known()
        columns = ", ".join(dict.fromkeys(c for c in (shape.time, shape.text, shape.id, shape.user) if c))
        await self._client.rows(f"SELECT {columns} FROM {shape.table} LIMIT 1")

    async def counts(self, since: int, until: int) -> dict[int, int]:
        """How many rows each second from ``since`` on and before ``until`` holds, by its number since 1970.

        Reads the time's column only: a cheap look for rows that came late.
        """
        shape = await self._known()
        rows = await self._client.rows(
            f"SELECT intDiv({shape.micros}, 1000000) AS second, count() FROM {shape.table}\n"
            f"WHERE {shape.bounds()} GROUP BY second",
            {"since": since, "until": until},
        )
        return {int(second): int(count) for second, count in rows}

    async def rows_before(self, until: int, rows: int) -> int | None:
        """The time of the first of the ``rows`` newest rows before ``until``; None if there are none."""
        shape = await self._known()
        found = await self._client.rows(
            "SELECT count(), min(at) FROM (\n"
            f"SELECT {shape.micros} AS at FROM {shape.table} WHERE {shape.bounds(False, True)}\n"
            f"ORDER BY {shape.time} DESC LIMIT {{rows:UInt32}})",
            {"until": until, "rows": rows},
        )
        return int(found[0][1]) if int(found[0][0]) else None

    async def timeless(self, most: int) -> list[SourceRow]:
        """Rows whose time is NULL, as if of 1970, at most ``most``."""
        shape = await self._known()
        if shape.timed_always:
            return []
        return await self._select(shape, f"{shape.time} IS NULL", {"rows": most}, ties=False)

    async def pages(
        self, since: int | None, until: int | None = None
    ) -> AsyncGenerator[list[SourceRow], None]:
        """All rows from ``since`` on and before ``until``, in order, in lists of some thousands.

        Each list is read by a query over its own range of times, so that the server never sorts more
        than that. Rows that are equal in time and tie are never apart.
        """
        shape = await self._known()
        begin = since
        while True:
            end = await self._page_end(begin, until)
            async for page in self._range(shape, begin, until if end is None else end):
                yield page
            if end is None:
                return
            begin = end

    async def _page_end(self, since: int | None, until: int | None) -> int | None:
        """Where a page from ``since`` should end, exclusive; None if no more than a page is left."""
        ahead = await self._ahead(since, until, PAGE_ROWS)
        return ahead.last + 1 if ahead.full else None

    async def _ahead(self, since: int | None, until: int | None, most: int) -> NextRows:
        """The next rows, in order of time: ``most``, or fewer where they are long."""
        shape = await self._known()
        while True:
            rows = await self._client.rows(
                "SELECT count(), min(at), max(at), sum(size) FROM (\n"
                f"SELECT {shape.micros} AS at, length(ifNull({shape.text}, '')) AS size FROM {shape.table}\n"
                f"WHERE {shape.bounds(since is not None, until is not None)} "
                f"ORDER BY {shape.time} LIMIT {{rows:UInt32}})",
                given(since=since, until=until, rows=most),
            )
            count, first, last, texts = map(int, rows[0])
            size = texts + count * _ROW_BYTES
            if size <= 2 * PAGE_BYTES or most == 1:
                return NextRows(count, first, last, size, full=count == most)
            most = max(1, count * PAGE_BYTES // size)

    async def _range(
        self, shape: Shape, since: int | None, until: int | None
    ) -> AsyncGenerator[list[SourceRow], None]:
        after: SourceRow | None = None
        while True:
            page = await self._page(shape, since, until, after)
            if page:
                yield page
            if len(page) < PAGE_ROWS:
                return
            after = page[-1]

    async def _page(
        self, shape: Shape, since: int | None, until: int | None, after: SourceRow | None
    ) -> list[SourceRow]:
        bounds = shape.bounds(since is not None, until is not None)
        if after is not None:
            since = after.micros
            bounds = shape.bounds(True, until is not None)
            bounds += " AND (at > {since:Int64} OR hex(tie) > {tie:String})"
        tie = after.tie.hex().upper() if after is not None else None
        return await self._select(
            shape, bounds, given(since=since, until=until, rows=PAGE_ROWS, tie=tie), ties=True
        )

    async def _select(
        self, shape: Shape, condition: str, parameters: dict[str, Any], *, ties: bool
    ) -> list[SourceRow]:
        columns = await self._client.columns(
            f"SELECT {shape.micros} AS at, {shape.tie} AS tie, {shape.values}\n"
            f"FROM {shape.table} WHERE {condition}\n"
            f"ORDER BY at, tie LIMIT {{rows:UInt32}}{' WITH TIES' if ties else ''}",
            parameters,
            strings_as_bytes=True,
        )
        return [SourceRow(*values) for values in zip(*columns, strict=True)]

    async def _known(self) -> Shape:
        if self._shape is None:
            await self.inspect()
        assert self._shape is not None
        return self._shape


async def begin_of(client: ClickHouseClient, days: int) -> int:
    """The first moment of the day ``days`` before today, in microseconds since 1970.

    Raises:
        UnavailableError, AccessError.
    """
    rows = await client.rows(
        "SELECT toUnixTimestamp64Micro(toDateTime64(today() - {days:UInt32}, 6))",
        {"days": min(days, _MOST_DAYS)},
    )
    return int(rows[0][0])
