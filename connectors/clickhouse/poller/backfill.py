"""Old rows of the source table, with the ids that the poller gives them, without those that are already
processed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Mapping, Sequence

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.poller.cursor import Cursor
from connectors.clickhouse.poller.publisher import Publisher
from connectors.clickhouse.poller.row_identity import CONTENT
from connectors.clickhouse.poller.row_messages import STEP
from connectors.clickhouse.queries.labelled_rows import given_up, labelled_between
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


class Settled:
    """Rows that are labelled, dead-lettered, or in flight.

    Compared by id, time and text. If two rows have one id, the order of their arrival decides which of them
    keeps the plain id. So they are compared by the id that they share, and counted.
    """

    def __init__(self) -> None:
        self._ids: dict[tuple[int, str], set[str]] = {}
        self._seen: Counter[tuple[int, str, str]] = Counter()

    def add(self, row_id: str, micros: int, text: str) -> None:
        """Add a row."""
        self._ids.setdefault((micros, text), set()).add(row_id)

    def has(self, row: Row) -> bool:
        """Whether ``row`` is among them. Call it once for each row of the source, in order."""
        micros = micros_of(row.created_at)
        ids = self._ids.get((micros, row.text))
        if ids is None:
            return False
        plain = row.row_id.split("~", 1)[0]
        self._seen[micros, row.text, plain] += 1
        same = sum(one == plain or one.startswith(f"{plain}~") for one in ids)
        return row.row_id in ids or self._seen[micros, row.text, plain] <= same

    def merged(self, rows: Iterable[tuple[str, int, str]]) -> Settled:
        """These, and ``rows`` (id, time, text) of one page."""
        both = Settled()
        both._ids = {key: set(ids) for key, ids in self._ids.items()}
        for row in rows:
            both.add(*row)
        return both


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
        self._too_large: set[str] = set()
        self._given_up: list[tuple[str, int, str]] = []

    async def count(self) -> int:
        """How many rows the range holds, settled or not."""
        return await self._source.count(self._since, self._until)

    async def pages(
        self, after: int | None, on_the_way: Sequence[tuple[str, int, str]]
    ) -> AsyncGenerator[tuple[list[tuple[Row, bytes]], list[Outgoing], int], None]:
        """Rows that are not settled, each with its mark (header `CONTENT`); dead letters of those that no
        topic takes; and the time from which reading can continue.

        ``after``: such a time. ``on_the_way``: id, time and text of rows that are on the topics and not in
        the tables yet; these must be read before the tables.

        Raises:
            UnavailableError, ConfigurationError: as `SourceTable`.
        """
        begin = self._since if after is None else after
        lookback = self._lookback + await self._source.coarseness()
        await self._learn_given_up()
        if begin is not None:
            # The poller's state when it came to these rows: the ids that were taken.
            async for page in self._source.pages(begin - lookback, begin):
                self._publisher.named(page)
        async for page in _whole_moments(self._source.pages(begin, self._until)):
            first, last = page[0].micros, page[-1].micros
            settled = (
                Settled()
                .merged(row for row in [*on_the_way, *self._given_up] if first <= row[1] <= last)
                .merged(await labelled_between(self._client, self._settings, first, last))
            )
            rows, letters = [], []
            self.settled = []
            for outgoing in self._publisher.named(page):
                if self._partitions is not None and outgoing.partition not in self._partitions:
                    continue
                mark = dict(outgoing.headers)[CONTENT]
                if outgoing.topic != self._topics.rows:
                    if (outgoing.key or b"").decode() not in self._too_large:
                        letters.append(outgoing)
                    else:
                        self.settled.append(mark)
                    continue
                row = decode(Row, outgoing.value)
                if settled.has(row):
                    self.counts["settled"] += 1
                    self.settled.append(mark)
                else:
                    rows.append((row, mark))
            self._publisher.published.forget_before(last - lookback)
            yield rows, letters, last + 1

    async def _learn_given_up(self) -> None:
        self._too_large, self._given_up = set(), []
        for step, row_id, payload in await given_up(self._client, self._settings):
            if step == STEP:
                self._too_large.add(row_id)
                continue
            try:
                row = decode(Row, payload)
            except UndecodableError:
                continue
            self._given_up.append((row_id, micros_of(row.created_at), row.text))


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


async def _whole_moments(pages: AsyncIterator[list[SourceRow]]) -> AsyncIterator[list[SourceRow]]:
    """Never splits rows of one time, so that reading can continue between two pages."""
    held: list[SourceRow] = []
    async for page in pages:
        held += page
        last = held[-1].micros
        whole = [row for row in held if row.micros < last]
        if whole:
            yield whole
            held = held[len(whole) :]
    if held:
        yield held
