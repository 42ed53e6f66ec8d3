"""Old rows of the source table, with the ids that the poller gives them, without those that are already
processed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from typing import NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.erasure.erased_list import ErasedRows
from connectors.clickhouse.poller.cursor import Cursor
from connectors.clickhouse.poller.publisher import Publisher
from connectors.clickhouse.poller.row_identity import CONTENT, Mark, RowDigests
from connectors.clickhouse.poller.row_messages import STEP, NamedRow
from connectors.clickhouse.poller.settled_rows import PassingRows, Settled, plain_id, texts_differ
from connectors.clickhouse.queries.labelled_rows import any_given_up, given_up, labelled_between
from connectors.clickhouse.source.table import SourceRow, SourceTable
from streams.core.codec import decode
from streams.core.errors import LeaseLostError, UndecodableError
from streams.core.messages import Row
from streams.core.records import Outage, Outgoing, Partition, Run
from streams.core.settings import Settings
from streams.core.times import micros_of
from streams.core.topics import Topics
from streams.privacy.door import STEP as MASK
from streams.privacy.door import Door, refuse_unmasked

_SECOND = 1_000_000


def poller_begins(cursor: Cursor, settings: Settings) -> int:
    """Rows from this time on, in microseconds since 1970, are the poller's to publish; older ones it never
    reads again. The cursor is never ahead of the poller, and its window moves in twentieths."""
    lookback = int(settings.poll_lookback_seconds * _SECOND) + cursor.coarse
    begin = cursor.watermark - lookback - lookback // 20 - _SECOND
    return begin if cursor.floor is None else max(begin, cursor.floor)


class OldRow(NamedTuple):
    """A row with its mark (header `CONTENT`). ``contents``: the 64 bits of its digests, with the key that is
    used now and with every other one. ``others``: its ids under those.
    """

    row: Row
    mark: bytes
    contents: tuple[int, ...]
    others: tuple[str, ...] = ()


class SourcedMark(NamedTuple):
    """The mark of a row that needs no message, and its ``contents`` as of `OldRow`."""

    mark: Mark
    contents: tuple[int, ...]


class OldRows:
    """Rows of the source table from ``since`` to before ``until``, microseconds since 1970. They are compared
    by what the table has of them, and only those that are returned are masked.
    """

    def __init__(
        self,
        client: ClickHouseClient,
        settings: Settings,
        topics: Topics,
        *,
        since: int | None,
        until: int,
        partitions: Collection[int] | None = None,
        door: Door | None = None,
        only: Collection[str] | None = None,
    ) -> None:
        """``partitions``: of the rows topic; only rows of these partitions are returned; None for all.
        ``door``: what masks the rows. ``only``: return the rows with these ids alone, settled or not.

        Raises:
            ConfigurationError: rows are to be masked, and there is no ``door``.
        """
        refuse_unmasked(settings, door)
        self.settled: list[SourcedMark] = []  # of the last page
        self.counts: Counter[str] = Counter()
        self._client = client
        self._settings = settings
        self._topics = topics
        self._since = since
        self._until = until
        self._partitions = partitions
        self._lookback = int(settings.poll_lookback_seconds * _SECOND)
        self._only = None if only is None else frozenset(only)
        self._any_text = texts_differ(settings)
        self._source = SourceTable(client, settings)
        self._erased = ErasedRows(client, settings)
        self._publisher = Publisher(
            self._source.name,
            topics,
            partitions=settings.topic_partitions,
            least_bytes=settings.min_text_length,
            sender=_Nobody(),
            lease=_Nobody(),
            counts=self.counts,
            digests=RowDigests.of(settings),
            door=door,
            aliases=True,
        )

    async def count(self) -> int:
        """How many rows the range holds, settled or not."""
        return await self._source.count(self._since, self._until)

    async def pages(
        self, after: int | None, on_the_way: PassingRows
    ) -> AsyncGenerator[tuple[list[OldRow], list[Outgoing], int], None]:
        """Rows that are not settled; dead letters of those that no topic takes; and the time from which
        reading can continue.

        ``after``: such a time. ``on_the_way``: rows that are on the topics and not in the tables yet; these
        must be read before the tables, with ``any_text`` as `texts_differ` says.

        Raises:
            UnavailableError, ConfigurationError: as `SourceTable`.
        """
        async with contextlib.aclosing(self._unsettled(after, on_the_way)) as pages:
            async for named, reached in pages:
                rows, letters = list[OldRow](), list[Outgoing]()
                messages = await self._publisher.messages_of(named)
                for one, message in zip(named, messages, strict=True):
                    outgoing = message.outgoing
                    if self._partitions is not None and outgoing.partition not in self._partitions:
                        continue
                    if outgoing.topic != self._topics.rows:
                        letters.append(outgoing)
                    else:
                        row, mark = decode(Row, outgoing.value), dict(outgoing.headers)[CONTENT]
                        rows.append(OldRow(row, mark, one.contents, tuple(one.ids[1:])))
                del named, messages
                yield rows, letters, reached
                del rows, letters  # not kept while the next page is read

    async def settled_marks(self, on_the_way: PassingRows) -> AsyncGenerator[list[SourcedMark], None]:
        """The rows that need no message, page by page. ``on_the_way`` and errors as of `pages`."""
        async with contextlib.aclosing(self._unsettled(None, on_the_way)) as pages:
            async for _ in pages:
                yield self.settled

    async def _unsettled(
        self, after: int | None, on_the_way: PassingRows
    ) -> AsyncGenerator[tuple[list[NamedRow], int], None]:
        """As `pages`, before anything is masked."""
        begin = self._since if after is None else after
        lookback = self._lookback + await self._source.coarseness()
        letters_there = await any_given_up(self._client, self._settings)
        if begin is not None:
            # The poller's state when it came to these rows: the ids that were taken.
            async for page in self._source.pages(begin - lookback, begin):
                self._publisher.seen(page)
        async for page, reached in _with_ends(self._source.pages(begin, self._until)):
            self._publisher.erased = await self._erased.now()
            named = self._publisher.named(page)
            first, last = page[0].micros, page[-1].micros
            del page  # the named rows hold what is needed of it
            named = await self._open(named, first, last, on_the_way, letters_there)
            self._publisher.published.forget_before(last - lookback)
            yield named, reached
            del named

    async def _open(
        self,
        named: list[NamedRow],
        first: int,
        last: int,
        on_the_way: PassingRows,
        letters_there: bool,
    ) -> list[NamedRow]:
        """Those of ``named`` that are not settled. Their times are from ``first`` to ``last``."""
        if self._only is not None:
            return [one for one in named if not self._only.isdisjoint(one.ids)]
        settled, kept_there = Settled(any_text=self._any_text), set[str]()
        for digest in on_the_way.between(first, last):
            settled.add_digest(digest)
        if letters_there:
            ids = [row_id for one in named for row_id in one.ids]
            for step, row_id, payload in await given_up(self._client, self._settings, map(plain_id, ids)):
                if step in (STEP, MASK):
                    kept_there.add(row_id)
                    continue
                try:
                    row = decode(Row, payload)
                except UndecodableError:
                    continue
                settled.add(row_id, micros_of(row.created_at), row.text)

        def number(micros: int, text: str) -> int:
            return hash(micros if self._any_text else (micros, text))

        wanted = {number(one.new.mark.micros, one.text) for one in named}

        def add(row_id: str, micros: int, text: str) -> None:
            if number(micros, text) in wanted:
                settled.add(row_id, micros, text)

        if wanted:
            await labelled_between(self._client, self._settings, first, last, add)
        there = [
            settled.has_id(one.row_id, one.new.mark.micros, one.text, one.ids[1:])
            or not kept_there.isdisjoint(one.ids)
            for one in named
        ]
        self.counts["settled"] += sum(there)
        self.settled = [
            SourcedMark(one.new.mark, one.contents) for one, known in zip(named, there, strict=True) if known
        ]
        return [one for one, known in zip(named, there, strict=True) if not known]


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
