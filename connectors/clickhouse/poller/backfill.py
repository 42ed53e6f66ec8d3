"""Old rows of the source table, with the ids that the poller gives them, without those that are already
processed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from typing import NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.poller.cursor import Cursor
from connectors.clickhouse.poller.publisher import Publisher
from connectors.clickhouse.poller.row_identity import CONTENT
from connectors.clickhouse.poller.row_messages import STEP
from connectors.clickhouse.poller.settled_rows import PassingRows, Settled, plain_id
from connectors.clickhouse.queries.labelled_rows import any_given_up, given_up, labelled_between
from connectors.clickhouse.source.table import SourceRow, SourceTable
from streams.core.codec import decode
from streams.core.errors import LeaseLostError, UndecodableError
from streams.core.messages import Row
from streams.core.records import Outage, Outgoing, Partition, Run
from streams.core.settings import Settings
from streams.core.times import micros_of
from streams.core.topics import Topics

_SECOND = 1_000_000


def poller_begins(cursor: Cursor, settings: Settings) -> int:
    """Rows from this time on, in microseconds since 1970, are the poller's to publish; older ones it never
    reads again. The cursor is never ahead of the poller, and its window moves in twentieths."""
    lookback = int(settings.poll_lookback_seconds * _SECOND) + cursor.coarse
    begin = cursor.watermark - lookback - lookback // 20 - _SECOND
    return begin if cursor.floor is None else max(begin, cursor.floor)


class _Page(NamedTuple):
    """Named rows of a page, and dead letters of those that no topic takes, each with its mark."""

    rows: list[tuple[Row, bytes]]
    letters: list[tuple[Outgoing, bytes]]


class OldRows:
    """Rows of the source table from ``since`` to before ``until``, microseconds since 1970."""

    def __init__(
        self,
        client: ClickHouseClient,
        settings: Settings,
        topics: Topics,
        *,
        since: int | None,
        until: int,
        partitions: Collection[int] | None = None,
    ) -> None:
        """``partitions``: of the rows topic; only rows of these partitions are returned; None for all."""
        self.settled: list[bytes] = []  # the marks of the settled rows of the last page
        self.counts: Counter[str] = Counter()
        self._client = client
        self._settings = settings
        self._topics = topics
        self._since = since
        self._until = until
        self._partitions = partitions
        self._lookback = int(settings.poll_lookback_seconds * _SECOND)
        self._source = SourceTable(client, settings)
        self._publisher = Publisher(
            self._source.name,
            topics,
            partitions=settings.topic_partitions,
            least_bytes=settings.min_text_length,
            sender=_Nobody(),
            lease=_Nobody(),
            counts=self.counts,
        )

    async def count(self) -> int:
        """How many rows the range holds, settled or not."""
        return await self._source.count(self._since, self._until)

    async def pages(
        self, after: int | None, on_the_way: PassingRows
    ) -> AsyncGenerator[tuple[list[tuple[Row, bytes]], list[Outgoing], int], None]:
        """Rows that are not settled, each with its mark (header `CONTENT`); dead letters of those that no
        topic takes; and the time from which reading can continue.

        ``after``: such a time. ``on_the_way``: rows that are on the topics and not in the tables yet; these
        must be read before the tables.

        Raises:
            UnavailableError, ConfigurationError: as `SourceTable`.
        """
        begin = self._since if after is None else after
        lookback = self._lookback + await self._source.coarseness()
        letters_there = await any_given_up(self._client, self._settings)
        if begin is not None:
            # The poller's state when it came to these rows: the ids that were taken.
            async for page in self._source.pages(begin - lookback, begin):
                self._publisher.named(page)
        async for page, reached in _with_ends(self._source.pages(begin, self._until)):
            found = _Page([], [])
            for outgoing in self._publisher.named(page):
                if self._partitions is not None and outgoing.partition not in self._partitions:
                    continue
                mark = dict(outgoing.headers)[CONTENT]
                if outgoing.topic != self._topics.rows:
                    found.letters.append((outgoing, mark))
                else:
                    found.rows.append((decode(Row, outgoing.value), mark))
            first, last = page[0].micros, page[-1].micros
            del page  # its messages hold it all
            rows, letters = await self._open(found, first, last, on_the_way, letters_there)
            self._publisher.published.forget_before(last - lookback)
            del found
            yield rows, letters, reached
            del rows, letters  # not kept while the next page is read

    async def _open(
        self, page: _Page, first: int, last: int, on_the_way: PassingRows, letters_there: bool
    ) -> tuple[list[tuple[Row, bytes]], list[Outgoing]]:
        """What is not settled of ``page``, whose rows have times from ``first`` to ``last``."""
        settled, too_large = Settled(), set[str]()
        for digest in on_the_way.between(first, last):
            settled.add_digest(digest)
        if letters_there:
            ids = [row.row_id for row, _ in page.rows]
            ids += [(letter.key or b"").decode() for letter, _ in page.letters]
            for step, row_id, payload in await given_up(self._client, self._settings, map(plain_id, ids)):
                if step == STEP:
                    too_large.add(row_id)
                    continue
                try:
                    row = decode(Row, payload)
                except UndecodableError:
                    continue
                settled.add(row_id, micros_of(row.created_at), row.text)
        wanted = {hash((micros_of(row.created_at), row.text)) for row, _ in page.rows}

        def add(row_id: str, micros: int, text: str) -> None:
            if hash((micros, text)) in wanted:
                settled.add(row_id, micros, text)

        if wanted:
            await labelled_between(self._client, self._settings, first, last, add)
        there = [settled.has(row) for row, _ in page.rows]
        self.counts["settled"] += sum(there)
        gone = [(letter.key or b"").decode() in too_large for letter, _ in page.letters]
        self.settled = [mark for (_, mark), known in zip(page.rows, there, strict=True) if known]
        self.settled += [mark for (_, mark), known in zip(page.letters, gone, strict=True) if known]
        return (
            [one for one, known in zip(page.rows, there, strict=True) if not known],
            [letter for (letter, _), known in zip(page.letters, gone, strict=True) if not known],
        )


class _Nobody:
    """A sender and lease for code that only makes messages, and leaves the sending to others."""

    generation = -1
    outages: Mapping[Partition, Outage] = {}

    def held(self) -> bool:
        return False

    async def hold(self, generation: int) -> None:
        raise LeaseLostError("nothing is sent from here")

    async def send(self, message: Outgoing) -> int:
        raise LeaseLostError("nothing is sent from here")

    async def send_many(self, messages: Sequence[Outgoing]) -> list[int]:
        raise LeaseLostError("nothing is sent from here")

    async def hand_over(self, runs: Sequence[Run]) -> Sequence[asyncio.Task[list[tuple[int, int]]]]:
        raise LeaseLostError("nothing is sent from here")


async def _with_ends(
    pages: AsyncIterator[list[SourceRow]],
) -> AsyncIterator[tuple[list[SourceRow], int]]:
    """Each page, and the time from which reading can continue after it. Where a moment has rows on both
    sides, this is the moment itself: it is read again, because only its time is known.
    """
    held: list[SourceRow] = []
    async for page in pages:
        if held:
            last = held[-1].micros
            yield held, last if page[0].micros == last else last + 1
        held = page
    if held:
        yield held, held[-1].micros + 1
