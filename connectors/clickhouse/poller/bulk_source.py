"""Many rows at once: ClickHouse makes the messages of plain rows, page by page."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog

from connectors.clickhouse.client.errors import SERVERS_FAULT, code_of
from connectors.clickhouse.poller.bulk_page import BulkPage
from connectors.clickhouse.poller.message_sql import PARAMETERS, SAMPLES, making, samples
from connectors.clickhouse.poller.plain_rows import QuickRows
from connectors.clickhouse.poller.read_ahead import one_ahead
from connectors.clickhouse.poller.row_identity import content_of, mark_of
from connectors.clickhouse.source.shape import ROW, Shape
from connectors.clickhouse.source.slices import Slice, slices, spooled
from connectors.clickhouse.source.table import PAGE_BYTES, PAGE_ROWS, SourceRow, SourceTable
from streams.core.errors import AccessError, LabelstreamError, OverloadedError
from streams.core.records import Outgoing

log = structlog.get_logger()

_MOST_ROWS = 50_000  # of which some four pages are in memory, one as it comes from the server
_MADE_OF = tuple(field for field in ROW if field != "tie")
_UNABLE = "ClickHouse cannot make the messages here; the poller does, more slowly"


class _Range(NamedTuple):
    """Times from ``begin`` to before ``end``, microseconds since 1970."""

    begin: int | None
    end: int | None
    in_order: bool  # to be read by `pages`


class BulkSource(SourceTable):
    """A source table that is read in bulk if there is much to read."""

    _trusted: bool | None = None

    async def bulk(
        self, since: int | None, until: int | None = None
    ) -> AsyncGenerator[BulkPage | list[SourceRow], None]:
        """As `pages`: all rows from ``since`` to before ``until``, by ranges of times.

        A range with too many rows of one moment is read in order, by `pages`. So are all ranges if the server
        makes other messages than Python would.
        """
        if not await self._trust():
            async for rows in self.pages(since, until):
                yield rows
            return
        shape = await self.shape()
        if not shape.sorted:
            await self._refuse_behind()
            for part in await slices(self._client, shape, since, until):
                async for some in self._made_of(shape, part):
                    yield some
            return
        ranges = self._ranges(since, until)

        async def next_range() -> _Range | None:
            return await anext(ranges, None)

        async def next_page() -> BulkPage | _Range | None:
            if (here := await anext(found, None)) is None:
                return None
            return here if here.in_order else await self._made(here) or here

        found: AsyncGenerator[_Range, None] = one_ahead(next_range)
        pages: AsyncGenerator[BulkPage | _Range, None] = one_ahead(next_page)
        async with contextlib.aclosing(ranges), contextlib.aclosing(found), contextlib.aclosing(pages):
            async for page in pages:
                if isinstance(page, BulkPage):
                    yield page
                    del page  # not kept while the next one is awaited
                    continue
                async for some in self._range(shape, page.begin, page.end):
                    yield some

    async def _made_of(self, shape: Shape, here: Slice) -> AsyncGenerator[BulkPage | list[SourceRow], None]:
        """The pages of a slice of a table not sorted by time; rows if the server cannot make pages."""
        read = shape.select(_MADE_OF, here.begin, here.end)
        found = spooled(
            self._client,
            f"SELECT * FROM ({making(read.subquery)}) ORDER BY at, content",
            {**PARAMETERS, **read.parameters, "least": self._settings.min_text_length},
            folder=self._settings.labelstream_data,
            size=here.size,
            page_rows=_MOST_ROWS,
            page_bytes=PAGE_BYTES,
        )
        async with contextlib.aclosing(found):
            while self._trusted:
                with self._able():
                    if (columns := await anext(found, None)) is None:
                        return
                    yield BulkPage.of(columns)
        async for page in self._slice(shape, here):
            yield page

    async def _ranges(self, since: int | None, until: int | None) -> AsyncGenerator[_Range, None]:
        """Ranges, each with a page's rows at present, which together cover all rows."""
        begin, rows = since, _MOST_ROWS
        while True:
            ahead = await self._ahead(begin, until, rows)
            if not ahead.full:
                if ahead.rows:
                    yield _Range(begin, until, not self._trusted)
                return
            # The last moment may have more rows than were counted: it begins the next range.
            end = ahead.last if ahead.last > ahead.first else ahead.last + 1
            yield _Range(begin, end, ahead.first == ahead.last or not self._trusted)
            begin = end
            rows = min(max(ahead.rows * PAGE_BYTES // ahead.size, 1), _MOST_ROWS)

    async def newest(
        self, since: int | None, told: Callable[[int], None]
    ) -> AsyncGenerator[BulkPage | list[SourceRow], None]:
        """As `bulk`, with fewer queries where little is expected. ``told`` is called with `now`, by the query
        that reads the rows, before the first page.
        """
        now, page = await self._page_and_now(since)
        told(now)
        if len(page) < PAGE_ROWS:
            if page:
                yield page
            return
        async with contextlib.aclosing(self.bulk(since)) as pages:
            async for some in pages:
                yield some

    async def _made(self, here: _Range) -> BulkPage | None:
        """One page; None for no rows, for many more than were counted, and if the server cannot make it.

        Raises:
            UnavailableError, OverloadedError, AccessError: the query failed.
        """
        most = 2 * _MOST_ROWS
        read = (await self.shape()).select(_MADE_OF, here.begin, here.end, limit=most)
        columns = await self._ask_for(read.subquery, self._settings.min_text_length, read.parameters)
        return BulkPage.of(columns) if columns and len(columns[0]) < most else None

    async def _trust(self) -> bool:
        """Whether this server makes the same messages of the samples as Python; checked once. Where a secret
        is needed, for masking or to recognise what was published with it, it is not: no secret goes there.
        """
        if self._trusted is None and self._settings.privacy_secret is not None:
            self._trusted = False
        if self._trusted is None:
            columns = await self._ask_for(samples(), 0, {})
            if columns is not None:
                self._trusted = _as_python(columns)
                if not self._trusted:
                    log.warning(_UNABLE, why="it makes other messages than Python")
        return bool(self._trusted)

    async def _ask_for(
        self, rows: str, least_bytes: int, parameters: Mapping[str, Any]
    ) -> list[Sequence[Any]] | None:
        """The columns made from ``rows``; None if the server cannot make them: then it is not asked again."""
        with self._able():
            return await self._client.columns(
                making(rows), {**PARAMETERS, **parameters, "least": least_bytes}, strings_as_bytes=True
            )
        return None

    @contextlib.contextmanager
    def _able(self) -> Iterator[None]:
        """Notes an error that says that this server cannot make the messages; raises others."""
        try:
            yield
        except LabelstreamError as error:
            code = code_of(error)
            if code is None or code in SERVERS_FAULT or isinstance(error, (AccessError, OverloadedError)):
                raise
            self._trusted = False
            log.warning(_UNABLE, why=str(error))


def _as_python(columns: Sequence[Sequence[Any]]) -> bool:
    """Whether these are the right messages of the samples."""
    now, many = datetime.now(UTC), 1_000_003  # with so many partitions, equal partitions mean equal digests
    quick = QuickRows("", many, 0)
    wanted = {}
    for row in SAMPLES:
        content = content_of(row)
        mark = mark_of(row, content)
        message = quick.outgoing(row, content, mark, now)
        assert message is not None, f"{row} is no plain row"
        wanted[message.key] = (*mark[:3], message)
    page = BulkPage.of(columns)
    numbers = zip(page.micros.tolist(), page.contents.tolist(), page.ids.tolist(), strict=True)
    marks = dict(zip(page.keys, numbers, strict=True))
    found = {
        key: (*marks[key or b""], Outgoing("", run.partition, key, value, headers))
        for run, _ in page.runs("", many, now)
        for key, value, headers in run.messages
    }
    return found == wanted
