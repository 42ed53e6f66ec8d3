"""The source table: any column names, read in order of (time, tie), page by page."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.errors import CONSTRAINT, READONLY, code_of
from connectors.clickhouse.source.diagnosis import notes_on, refuse_unsteady, why_nothing
from connectors.clickhouse.source.inspection import FoundTable, look_up, shape_of
from connectors.clickhouse.source.replica_delay import ReplicaDelay
from connectors.clickhouse.source.shape import ROW, Select, Shape
from connectors.clickhouse.source.shards import notes_on_shards, refuse_skipping
from connectors.clickhouse.source.slices import Slice, slices, spooled
from connectors.clickhouse.source.times import DAY
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from streams.core.times import micros_of

PAGE_ROWS = 10_000
PAGE_BYTES = 16_000_000  # approximately; a page of long rows has fewer rows
_ROW_BYTES = 200  # without its text
_CLOCK, _TODAY = "toUnixTimestamp64Micro(now64(6))", "toInt32(today())"
# Of so many days and more all rows are meant: Date holds days from 1970 on.
ALL_DAYS = 20_000


class SourceRow(NamedTuple):
    """A row as the table has it. ``micros``: its time in microseconds since 1970, UTC. ``tie`` orders rows of
    one time: the id, of a long one its beginning and a hash, or a hash of user and text.
    """

    micros: int
    tie: bytes
    id: bytes | None
    text: bytes | None
    user: bytes | None
    session: bytes | None
    domain: bytes | None


class NextRows(NamedTuple):
    """The number of the next ``rows``. ``first``, ``last``: times, microseconds since 1970. ``size``:
    approximate bytes. ``full``: there may be more of them.
    """

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
        self._found: FoundTable | None = None
        self._delay = ReplicaDelay(client, settings)

    @property
    def name(self) -> str:
        """Database and table."""
        return self._settings.source_table

    async def inspect(self) -> FoundTable:
        """Look the table up, and check that its columns can be read.

        Raises:
            ConfigurationError: no such table or column, or one that cannot or may not be read.
        """
        found = await look_up(self._client, self._settings)
        shape = shape_of(self._settings, found)
        try:
            await self._try(shape)
        except ConfigurationError as error:
            if code_of(error) not in (READONLY, CONSTRAINT) or not shape.settings:
                raise
            # A user who may change no setting. Without them, `notes` says so.
            await refuse_skipping(self._client, found)
            shape = replace(shape, final="", settings="")
            await self._try(shape)
        self._found, self._shape = found, shape
        return found

    async def verify(self) -> FoundTable:
        """As `inspect`, and check that each reading gives the same rows.

        Raises:
            ConfigurationError: as `inspect`, or the rows differ.
        """
        found = await self.inspect()
        await refuse_unsteady(self._client, self._settings, found, await self.shape())
        return found

    async def why_nothing(self, since: int | None) -> ConfigurationError | None:
        """Why no row from ``since`` on is found; None if the table is empty."""
        shape = await self.shape()
        assert self._found is not None
        return await why_nothing(self._client, self._settings, self._found, shape, since)

    async def notes(self) -> list[str]:
        """Remarks for `labelstream check`."""
        shape = await self.shape()
        assert self._found is not None
        notes = await notes_on(self._client, self._settings, self._found, shape, await self.now())
        return notes + await notes_on_shards(self._client, self._found, told=bool(shape.settings))

    async def shape(self) -> Shape:
        """How it is read."""
        if self._shape is None:
            await self.inspect()
        assert self._shape is not None
        return self._shape

    async def coarseness(self) -> int:
        """How much later than its time a row may be written: a day (microseconds) for a date, else 0."""
        return DAY if (await self.shape()).time.is_date else 0

    async def now(self) -> int:
        """The newest time that a row written now can have, by the server's clock, microseconds since 1970.

        For a date this is midnight UTC of the server's day, which is later than its clock east of UTC.

        Raises:
            UnavailableError: also where the server's replica is too far behind to be read.
        """
        await self._refuse_behind()
        return _newest_time(await self.shape(), *await self._clock())

    async def floor(self, start: str) -> int | None:
        """Where reading begins (POLL_START), in microseconds since 1970; None: at the first row.

        Rounded down to the precision of the time column: a row of that second or day may be written later.
        """
        if start == "beginning":
            return None
        shape = await self.shape()
        if start != "now":
            return shape.time.rounded(micros_of(datetime.fromisoformat(start)))
        at, today = await self._clock()
        # West of UTC the server's day may be the day before.
        return shape.time.rounded(min(at, today) if shape.time.is_date else at)

    async def begin(self, days: int) -> int | None:
        """The first moment of the day ``days`` before today by the server's calendar, in microseconds since
        1970; None for the first row.

        Raises:
            UnavailableError, AccessError, ConfigurationError.
        """
        if days >= ALL_DAYS:
            return None
        shape = await self.shape()
        day = "today() - {days:UInt32}"
        micros = f"toInt64({day}) * {DAY}" if shape.time.is_date else f"toInt64(toDateTime({day})) * 1000000"
        rows = await self._client.rows(f"SELECT {micros}", {"days": days})
        return int(rows[0][0])

    async def without_time(self) -> int:
        """Rows whose time is NULL: they have no place in any order and cannot be followed."""
        shape = await self.shape()
        return 0 if shape.timed_always else await self._count(shape.select(("time",), timeless=True))

    async def sample(self) -> None:
        """Read one row, to see that the user may."""
        read = (await self.shape()).select(ROW, limit=1)
        await self._client.rows(read.sql, read.parameters)

    async def any_text(self, longer_than: int) -> bool:
        """Whether there is a row with a text of more than so many bytes."""
        read = (await self.shape()).select(("time",), longer_than=longer_than, limit=1)
        return bool(await self._client.rows(read.sql, read.parameters))

    async def count(self, since: int | None, until: int | None) -> int:
        """How many rows there are from ``since`` on and before ``until``."""
        return await self._count((await self.shape()).select(("time",), since, until))

    async def counts(self, since: int, until: int) -> dict[int, int]:
        """The number of rows of each second from ``since`` to before ``until``, by seconds since 1970.

        Reads the time column only: a cheap check for rows that appeared late.
        """
        read = (await self.shape()).select(("time",), since, until)
        rows = await self._client.rows(
            "SELECT intDiv(at - positiveModulo(at, 1000000), 1000000) AS second, count()\n"
            f"FROM ({read.subquery}) GROUP BY second",
            read.parameters,
        )
        return {int(second): int(count) for second, count in rows}

    async def rows_before(self, until: int, rows: int) -> int | None:
        """The time of the first of the ``rows`` newest rows before ``until``; None if there are none."""
        read = (await self.shape()).select(("time",), until=until, order="DESC", limit=rows)
        found = await self._client.rows(f"SELECT count(), min(at) FROM ({read.subquery})", read.parameters)
        return int(found[0][1]) if int(found[0][0]) else None

    async def timeless(self, most: int) -> list[SourceRow]:
        """Rows whose time is NULL, as if of 1970, at most ``most``."""
        shape = await self.shape()
        return [] if shape.timed_always else await self._rows(shape.select(ROW, timeless=True), most)

    async def pages(
        self, since: int | None, until: int | None = None
    ) -> AsyncGenerator[list[SourceRow], None]:
        """All rows from ``since`` to before ``until``, in order, in lists of some thousands.

        Each list is read by a query over its own range of times, so that the server never sorts more than
        that; see `slices` for a table that is not sorted by time. Rows that are equal in time and tie are
        never split.
        """
        shape = await self.shape()
        if not shape.sorted:
            await self._refuse_behind()
            for here in await slices(self._client, shape, since, until):
                async for page in self._slice(shape, here):
                    yield page
            return
        begin = since
        while True:
            end = await self._page_end(begin, until)
            async for page in self._range(shape, begin, until if end is None else end):
                yield page
            if end is None:
                return
            begin = end

    async def _refuse_behind(self) -> None:
        await self.shape()
        assert self._found is not None
        await self._delay.refuse(self._found)

    async def _try(self, shape: Shape) -> None:
        read = shape.select(ROW, limit=0)
        await self._client.rows(read.sql, read.parameters)

    async def _clock(self) -> tuple[int, int]:
        """The server's clock, and midnight UTC of its day."""
        rows = await self._client.rows(f"SELECT {_CLOCK}, {_TODAY}")
        return int(rows[0][0]), int(rows[0][1]) * DAY

    async def _count(self, read: Select) -> int:
        rows = await self._client.rows(f"SELECT count() FROM ({read.subquery})", read.parameters)
        return int(rows[0][0])

    async def _page_end(self, since: int | None, until: int | None) -> int | None:
        """The end of a page from ``since``, exclusive; None if no more than a page is left."""
        ahead = await self._ahead(since, until, PAGE_ROWS)
        return ahead.last + 1 if ahead.full else None

    async def _ahead(self, since: int | None, until: int | None, most: int) -> NextRows:
        """The next rows, in order of time: ``most``, or fewer where they are long."""
        # For each page: a history takes long, and the host may be another one now.
        await self._refuse_behind()
        shape = await self.shape()
        while True:
            # All versions of a row: this is about sizes only.
            read = shape.select(("time", "size"), since, until, order="ASC", limit=most, all_versions=True)
            rows = await self._client.rows(
                f"SELECT count(), min(at), max(at), sum(size) FROM ({read.subquery})", read.parameters
            )
            count, first, last, texts = map(int, rows[0])
            size = texts + count * _ROW_BYTES
            if size <= 2 * PAGE_BYTES or most == 1:
                return NextRows(count, first, last, size, full=count == most)
            most = max(1, count * PAGE_BYTES // size)

    async def _slice(self, shape: Shape, here: Slice) -> AsyncGenerator[list[SourceRow], None]:
        if here.rows < PAGE_ROWS and here.rows * here.size < PAGE_BYTES:
            async for page in self._range(shape, here.begin, here.end):
                yield page
            return
        read = shape.select(ROW, here.begin, here.end)
        sql = f"SELECT * FROM ({read.subquery}) ORDER BY at, tie"
        found = spooled(
            self._client,
            sql,
            read.parameters,
            folder=self._settings.labelstream_data,
            size=here.size,
            page_rows=PAGE_ROWS,
            page_bytes=PAGE_BYTES,
        )
        async with contextlib.aclosing(found):
            async for columns in found:
                yield [SourceRow(*values) for values in zip(*columns, strict=True)]

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
        if after is None:
            return await self._rows(shape.select(ROW, since, until), PAGE_ROWS, ties=True)
        read = shape.select(ROW, after.micros, until)
        beyond = "(at > {after:Int64} OR hex(tie) > {tie:String})"
        given = {"after": after.micros, "tie": after.tie.hex().upper()}
        return await self._rows(read, PAGE_ROWS, beyond, given, ties=True)

    async def _page_and_now(self, since: int | None) -> tuple[int, list[SourceRow]]:
        """`now`, and the first page from ``since`` on, by one query: most find nothing new."""
        await self._refuse_behind()
        shape = await self.shape()
        read = shape.select(ROW, since)
        nothing = ", ".join(["NULL"] * (len(ROW) - 2))
        columns: list[Sequence[Any]] = await self._client.columns(
            "SELECT 0 AS told, * FROM (\n"
            f"SELECT * FROM ({read.subquery}) ORDER BY at, tie LIMIT {{most:UInt64}} WITH TIES\n"
            f") UNION ALL SELECT 1, {_CLOCK}, toString({_TODAY}), {nothing}",
            {**read.parameters, "most": PAGE_ROWS},
            strings_as_bytes=True,
        )
        found = [(told, SourceRow(*values)) for told, *values in zip(*columns, strict=True)]
        clock = next(row for told, row in found if told)
        now = _newest_time(shape, int(clock.micros), int(clock.tie) * DAY)
        return now, [row for told, row in found if not told]

    async def _rows(
        self,
        read: Select,
        most: int,
        where: str = "1",
        given: dict[str, Any] | None = None,
        *,
        ties: bool = False,
    ) -> list[SourceRow]:
        """Rows of ``read``, which asks for `ROW`, in order of time and tie."""
        columns: list[Sequence[Any]] = await self._client.columns(
            f"SELECT * FROM ({read.subquery})\n"
            f"WHERE {where} ORDER BY at, tie LIMIT {{most:UInt64}}{' WITH TIES' if ties else ''}",
            {**read.parameters, **(given or {}), "most": most},
            strings_as_bytes=True,
        )
        return [SourceRow(*values) for values in zip(*columns, strict=True)]


def _newest_time(shape: Shape, at: int, today: int) -> int:
    """See `SourceTable.now`."""
    return max(at, today) if shape.time.is_date else at
