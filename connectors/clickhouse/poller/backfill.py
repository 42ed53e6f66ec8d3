"""Old rows of the source table, with the ids that the poller gives them, without those that are already
processed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from typing import NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.erasure.erased_list import ErasedRows
from connectors.clickhouse.poller.cursor import Cursor
from connectors.clickhouse.poller.publisher import Publisher
from connectors.clickhouse.poller.row_identity import CONTENT, Mark, RowDigests
from connectors.clickhouse.poller.row_messages import STEP, NamedMessage
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


class _Page(NamedTuple):
    """Named rows of a page, and dead letters of those that no topic takes."""

    rows: list[OldRow]
    letters: list[NamedMessage]


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
        door: Door | None = None,
        settled: bool = False,
    ) -> None:
        """``partitions``: of the rows topic; only rows of these partitions are returned; None for all.
        ``door``: what masks the rows. ``settled``: return rows that are settled as well.

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
        self._every = settled
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
        begin = self._since if after is None else after
        lookback = self._lookback + await self._source.coarseness()
        letters_there = await any_given_up(self._client, self._settings)
        if begin is not None:
            # The poller's state when it came to these rows: the ids that were taken.
            async for page in self._source.pages(begin - lookback, begin):
                self._publisher.seen(page)
        async for page, reached in _with_ends(self._source.pages(begin, self._until)):
            found = _Page([], [])
            self._publisher.erased = await self._erased.now()
            for one in await self._publisher.named(page):
                outgoing = one.outgoing
                if self._partitions is not None and outgoing.partition not in self._partitions:
                    continue
                if outgoing.topic != self._topics.rows:
                    found.letters.append(one)
                else:
                    row, mark = decode(Row, outgoing.value), dict(outgoing.headers)[CONTENT]
                    others = tuple(alias.row_id for alias in one.aliases)
                    found.rows.append(OldRow(row, mark, _contents(one), others))
            first, last = page[0].micros, page[-1].micros
            del page  # its messages hold it all
            rows, letters = await self._open(found, first, last, on_the_way, letters_there)
            self._publisher.published.forget_before(last - lookback)
            del found
            yield rows, letters, reached
            del rows, letters  # not kept while the next page is read

    async def _open(
        self, page: _Page, first: int, last: int, on_the_way: PassingRows, letters_there: bool
    ) -> tuple[list[OldRow], list[Outgoing]]:
        """What is not settled of ``page``, whose rows have times from ``first`` to ``last``."""
        if self._every:
            return page.rows, [one.outgoing for one in page.letters]
        settled, kept_there = Settled(any_text=self._any_text), set[str]()
        for digest in on_the_way.between(first, last):
            settled.add_digest(digest)
        if letters_there:
            ids = [row_id for one in page.rows for row_id in (one.row.row_id, *one.others)]
            ids += [row_id for one in page.letters for row_id in _ids(one)]
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

        wanted = {number(micros_of(one.row.created_at), one.row.text) for one in page.rows}
        if self._any_text:
            wanted.update(number(one.mark.micros, "") for one in page.letters)

        def add(row_id: str, micros: int, text: str) -> None:
            if number(micros, text) in wanted:
                settled.add(row_id, micros, text)

        if wanted:
            await labelled_between(self._client, self._settings, first, last, add)
        there = [
            settled.has(one.row, one.others) or not kept_there.isdisjoint((one.row.row_id, *one.others))
            for one in page.rows
        ]
        self.counts["settled"] += sum(there)
        # A row that has a label may be one that cannot be masked now: only its id and time are known then.
        gone = [
            not kept_there.isdisjoint(_ids(one))
            or (self._any_text and settled.has_id(_ids(one)[0], one.mark.micros, "", _ids(one)[1:]))
            for one in page.letters
        ]
        self.settled = [
            SourcedMark(Mark.parse(one.mark) or Mark(0, 0, 0), one.contents)
            for one, known in zip(page.rows, there, strict=True)
            if known
        ]
        self.settled += [
            SourcedMark(one.mark, _contents(one))
            for one, known in zip(page.letters, gone, strict=True)
            if known
        ]
        return (
            [one for one, known in zip(page.rows, there, strict=True) if not known],
            [one.outgoing for one, known in zip(page.letters, gone, strict=True) if not known],
        )


def _ids(one: NamedMessage) -> list[str]:
    return [(one.outgoing.key or b"").decode(), *(alias.row_id for alias in one.aliases)]


def _contents(one: NamedMessage) -> tuple[int, ...]:
    return (one.mark.content, *(alias.content for alias in one.aliases))


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
