"""Many rows at once: ClickHouse makes the messages of plain rows, page by page."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog

from connectors.clickhouse.ahead import one_ahead
from connectors.clickhouse.bulk_page import BulkPage
from connectors.clickhouse.errors import SERVERS_FAULT, code_of
from connectors.clickhouse.identity import content_of, mark_of
from connectors.clickhouse.making import PARAMETERS, SAMPLES, making, samples
from connectors.clickhouse.quick import QuickRows
from connectors.clickhouse.source import PAGE_ROWS, SourceRow, SourceTable
from streams.errors import AccessError, LabelstreamError, OverloadedError
from streams.ports import Outgoing

log = structlog.get_logger()

_MOST_ROWS = 50_000
_LEAST_ROWS = 1_000
_PAGE_BYTES = 16_000_000
_MESSAGE_BYTES = 200  # without the text
_SAMPLE_ROWS = 1_000


def _fitting(mean: float) -> int:
    """How many rows of ``mean`` bytes a page should have."""
    return min(max(int(_PAGE_BYTES / (mean + 1)), _LEAST_ROWS), _MOST_ROWS) if mean == mean else _LEAST_ROWS


class _Range(NamedTuple):
    """Times from ``begin`` on and before ``end``, microseconds since 1970."""

    begin: int | None
    end: int | None
    one_moment: bool


class BulkSource(SourceTable):
    """A source table that is read in bulk where there is much to read."""

    _trusted: bool | None = None

    async def bulk(
        self, since: int | None, until: int | None = None
    ) -> AsyncIterator[BulkPage | list[SourceRow]]:
        """As `pages`: all rows from ``since`` on and before ``until``, by ranges of times.

        A range of so many rows of one moment that they need an order comes as `pages` has it, and all of
        them do where the server makes other messages than Python would.
        """
        if not await self._trust():
            async for some in self.pages(since, until):
                yield some
            return
        rows = _fitting(await self._mean(since, until))
        ranges = self._ranges(since, until, lambda: rows)

        async def next_range() -> _Range | None:
            return await anext(ranges, None)

        async def next_page() -> BulkPage | _Range | None:
            if (here := await anext(found, None)) is None:
                return None
            return here if here.one_moment else await self._made(here) or here

        found: AsyncGenerator[_Range, None] = one_ahead(next_range)
        pages: AsyncGenerator[BulkPage | _Range, None] = one_ahead(next_page)
        async with contextlib.aclosing(ranges), contextlib.aclosing(found), contextlib.aclosing(pages):
            async for page in pages:
                if isinstance(page, BulkPage):
                    rows = _fitting(page.size / len(page))
                    yield page
                else:
                    async for some in self._range(await self._known(), page.begin, page.end):
                        yield some

    async def _ranges(
        self, since: int | None, until: int | None, most: Callable[[], int]
    ) -> AsyncGenerator[_Range, None]:
        """Ranges of up to ``most`` rows as they are now, which together hold all rows."""
        begin = since
        while True:
            rows = most()
            count, first, last = await self._ahead(begin, until, rows)
            if count < rows:
                if count:
                    yield _Range(begin, until, False)
                return
            # The last moment may have more rows than were counted: it begins the next range.
            end = last if last > first else last + 1
            yield _Range(begin, end, first == last)
            begin = end

    async def newest(self, since: int | None) -> AsyncIterator[BulkPage | list[SourceRow]]:
        """As `bulk`, with fewer queries where little is expected."""
        page = await self._page(await self._known(), since, None, None)
        if len(page) < PAGE_ROWS:
            if page:
                yield page
            return
        async for some in self.bulk(since):
            yield some

    async def _mean(self, since: int | None, until: int | None) -> float:
        """How many bytes a message is likely to have, by some rows."""
        shape = await self._known()
        rows = await self._client.rows(
            f"SELECT avg(length(text_)) FROM (SELECT {shape.values} FROM {shape.table}\n"
            f"WHERE {shape.bounds(since is not None, until is not None)} LIMIT {_SAMPLE_ROWS})",
            {name: at for name, at in (("since", since), ("until", until)) if at is not None},
        )
        return _MESSAGE_BYTES + float(rows[0][0] or 0)

    async def _made(self, here: _Range) -> BulkPage | None:
        """One page; None for no rows, and for many more than were counted."""
        shape, most = await self._known(), 2 * _MOST_ROWS
        given = {
            "since": here.begin, "until": here.end, "rows": most, "least": self._settings.min_text_length
        }  # fmt: skip
        columns = await self._client.columns(
            making(
                f"SELECT {shape.micros} AS at, {shape.values}\nFROM {shape.table} "
                f"WHERE {shape.bounds(here.begin is not None, here.end is not None)} LIMIT {{rows:UInt32}}"
            ),
            PARAMETERS | {name: value for name, value in given.items() if value is not None},
            strings_as_bytes=True,
        )
        return BulkPage.of(columns) if columns and len(columns[0]) < most else None

    async def _trust(self) -> bool:
        """Whether this server makes of the samples what Python makes of them; asked once.

        Raises:
            UnavailableError, OverloadedError, AccessError: it could not be asked.
        """
        if self._trusted is None:
            try:
                columns = await self._client.columns(
                    making(samples()), PARAMETERS | {"least": 0}, strings_as_bytes=True
                )
            except LabelstreamError as error:
                code = code_of(error)
                if code is None or code in SERVERS_FAULT or isinstance(error, (AccessError, OverloadedError)):
                    raise
                why = str(error)
            else:
                why = "" if _as_python(columns) else "it makes other messages than Python"
            self._trusted = not why
            if why:
                log.warning("ClickHouse cannot make the messages here; the poller does, more slowly", why=why)
        return self._trusted


def _as_python(columns: Sequence[Sequence[Any]]) -> bool:
    """Whether these are the messages of the samples."""
    now, many = datetime.now(UTC), 1_000_003  # so many partitions that equal ones are equal digests
    quick = QuickRows("", many, 0)
    wanted = {}
    for row in SAMPLES:
        content = content_of(row)
        mark = mark_of(row, content)
        message = quick.outgoing(row, content, mark, now)
        assert message is not None, f"{row} is no plain row"
        wanted[message.key] = (*mark, message)
    page = BulkPage.of(columns)
    numbers = zip(page.micros.tolist(), page.contents.tolist(), page.ids.tolist(), strict=True)
    marks = dict(zip(page.keys, numbers, strict=True))
    found = {
        key: (*marks[key or b""], Outgoing("", run.partition, key, value, headers))
        for run, _ in page.runs("", many, now)
        for key, value, headers in run.messages
    }
    return found == wanted
