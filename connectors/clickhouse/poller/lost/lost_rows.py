"""Finds the rows of messages that retention removed unread, and publishes them again.

It is unknown which rows they were. But they have no label and are not in flight, and the last message that
was read before them says from which time on to look: rows are published in the order of time, apart from the
look-back window and the size of a page. So the source table is compared with the tables and the topics, once
for all known losses, a piece between two polls.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.poller.backfill import OldRow, OldRows
from connectors.clickhouse.poller.lost.republisher import PublishingError, Republisher
from connectors.clickhouse.poller.lost.search import OnTheWay, Search, Window
from connectors.clickhouse.poller.lost.search_log import SearchLog
from connectors.clickhouse.poller.published_rows import Published
from connectors.clickhouse.poller.row_identity import Mark, RowDigests
from connectors.clickhouse.poller.settled_rows import texts_differ
from connectors.clickhouse.queries.labelled_rows import augmented
from connectors.clickhouse.source.table import SourceTable
from streams.core.codec import RECOVERED, encode, headers_of
from streams.core.digests import key_digest
from streams.core.errors import LabelstreamError, LeaseLostError
from streams.core.losses import Loss, Losses
from streams.core.messages import Labeled, Row
from streams.core.records import Outgoing, Partition
from streams.core.settings import Settings
from streams.core.times import micros_of
from streams.core.topics import Topics, partition_of
from streams.ports.kafka import BulkSender, Headroom, InFlight, Lease, Tail
from streams.privacy.door import Door, refuse_unmasked

log = structlog.get_logger()

_SECOND = 1_000_000
# Rows of one page are published in any order, and a page has at most 100,000.
_PAGES_ROWS = 200_000
_STEP_SECONDS = 2.0
_LOOK_SECONDS = 1.0
_AWAY_SECONDS = 5.0


class LostRows:
    """Searches during one ownership of the cursor. ``counts``: `recovered` (rows published again)."""

    def __init__(
        self,
        client: ClickHouseClient,
        settings: Settings,
        topics: Topics,
        losses: Losses,
        *,
        in_flight: InFlight,
        tail: Tail,
        sender: BulkSender,
        lease: Lease,
        headroom: Headroom,
        generation: int,
        counts: Counter[str],
        door: Door | None = None,
    ) -> None:
        """``losses``: kept up to date. ``door``: what masks the rows."""
        refuse_unmasked(settings, door)
        self._door = door
        self._any_text = texts_differ(settings)
        self._client = client
        self._settings = settings
        self._topics = topics
        self._losses = losses
        self._in_flight = in_flight
        self._tail = tail
        self._headroom = headroom
        self._source = SourceTable(client, settings)
        self._search_log = SearchLog(
            self._source.name, topics.cursor, losses, tail, sender, lease, generation
        )
        self._republisher = Republisher(sender, lease, generation, counts)
        self._lookback = int(settings.poll_lookback_seconds * _SECOND)
        self._search: Search | None = None
        self._way = OnTheWay()
        self._pages: AsyncGenerator[tuple[list[OldRow], list[Outgoing], int], None] | None = None
        self._pending: tuple[list[Outgoing], int] | None = None  # found messages, and the time after them
        self._until = 0  # where the pages end
        self._inside = False  # whether they are in the window
        self._again_at = 0.0
        self._said = ""

    async def step(self, window: Window) -> None:
        """Search for some seconds, if anything is lost; never while the poller has unconfirmed messages.
        What was found for a partition that cannot be written delays the search, and not the poller.

        Raises:
            RetryableError: it is unknown what was written.
            LeaseLostError.
        """
        if not self._losses.open or time.monotonic() < self._again_at:
            return
        try:
            if self._republisher.unconfirmed and self._search is not None:
                if not await self._republisher.confirmed(self._search):
                    return
                await self._leave_off()  # the poller has gone on meanwhile: what follows is read anew
            wanted = [loss for loss in self._losses.open if self._about_rows(loss)]
            for loss in self._losses.open:
                if loss not in wanted:
                    await self._search_log.closed(loss)
            if not wanted:
                return
            RowDigests.of(self._settings).require(window.generations, "rows")
            search = await self._current(wanted, window)
            if search.complete:
                await self._close(search)
            else:
                await self._look(search, window)
            self._said = ""
        except LeaseLostError:
            raise
        except PublishingError as error:
            raise error.cause from error
        except LabelstreamError as error:
            await self._leave_off()
            self._again_at = time.monotonic() + _AWAY_SECONDS
            if str(error) != self._said:
                log.warning("lost_rows_wait", reason=str(error))
            self._said = str(error)

    async def close(self) -> None:
        """Stop reading."""
        await self._leave_off()

    async def remember(self, published: Published, begin: int, until: int, partitions: int) -> None:
        """Add to ``published`` the rows from ``begin`` to before ``until`` that have a label, are dead
        letters or are in flight, which the topic no longer shows. ``partitions``: of the rows topic.

        Raises:
            UnavailableError, AccessError, ConfigurationError.
        """
        way = await OnTheWay.seen(self._in_flight, range(partitions), any_text=self._any_text)
        old = OldRows(self._client, self._settings, self._topics, since=begin, until=until, door=self._door)
        async with contextlib.aclosing(old.settled_marks(way.rows)) as pages:
            async for settled_rows in pages:
                known = published.counts_of_any([one.contents for one in settled_rows])
                seen: Counter[int] = Counter()
                new = []
                for (mark, _), count in zip(settled_rows, known, strict=True):
                    seen[mark.content] += 1
                    if seen[mark.content] > count:
                        new.append(mark)
                published.add(new)

    def _about_rows(self, loss: Loss) -> bool:
        return loss.topic in (self._topics.rows, self._topics.labeled, self._topics.dead_letter)

    # --- the current search ---

    async def _current(self, wanted: Sequence[Loss], window: Window) -> Search:
        if self._search is None:
            self._search = await self._search_log.newest()
        if self._search is None or self._search.done or not self._search.has(wanted):
            # Rows that an unfinished search published may be among the lost ones now: search everything
            # again.
            await self._leave_off()
            self._search = Search(
                covers={loss.id: loss.end for loss in wanted},
                partitions=sorted({loss.partition for loss in wanted}),
                stored=any(loss.topic != self._topics.rows for loss in wanted),
                position=await self._begin(wanted, window),
            )
            await self._search_log.save(self._search)
            log.warning(
                "looks_for_lost_rows",
                search=self._search.id,
                losses=len(wanted),
                messages=sum(loss.messages for loss in wanted),
                partitions=self._search.partitions,
                since=self._search.position,
            )
        return self._search

    async def _begin(self, losses: Sequence[Loss], window: Window) -> int | None:
        times = [loss.since for loss in losses]
        known = [since for since in times if since is not None]
        if len(known) < len(times):
            if not (days := self._settings.result_retention_days):
                return window.floor
            # What the tables have forgotten looks as if it had never been labelled.
            kept = min(int(time.time() - days * 86_400) * _SECOND, window.begin)
            return kept if window.floor is None else max(kept, window.floor)
        # A row of a date has the time of the day's beginning, and may be written until its end.
        lookback = self._lookback + await self._source.coarseness()
        since = min(known) - lookback - lookback // 10 - _SECOND
        before = await self._source.rows_before(since, _PAGES_ROWS)
        begin = since if before is None else before
        return begin if window.floor is None else max(begin, window.floor)

    # --- searching ---

    async def _look(self, search: Search, window: Window) -> None:
        began = time.monotonic()
        while time.monotonic() - began < _STEP_SECONDS or self._inside:
            if self._pages is None:
                await self._open(search, window)
            if self._pending is None and not await self._next(search, window):
                if search.complete or self._until < window.begin:
                    return  # all is searched that the poller has come to
            elif self._pending is not None and not await self._publish(search):
                if self._inside:
                    await self._leave_off()
                return

    async def _next(self, search: Search, window: Window) -> bool:
        """Read a page; False if there are no more."""
        assert self._pages is not None
        page = await anext(self._pages, None)
        if page is not None:
            rows, _, reached = page
            self._pending = await self._chosen(search, rows, window), reached
            return True
        search.position, search.complete = self._until, self._inside
        await self._leave_off()
        await self._search_log.save(search)
        return False

    async def _open(self, search: Search, window: Window) -> None:
        """Rows before the window are no longer the poller's. In the window the poller publishes new rows
        itself: these are searched in one go, while it does not poll.
        """
        self._inside = search.position is not None and search.position >= window.begin
        self._until = window.watermark + 1 if self._inside else min(window.begin, window.watermark + 1)
        self._way = await OnTheWay.seen(self._in_flight, search.partitions, any_text=self._any_text)
        old = OldRows(
            self._client,
            self._settings,
            self._topics,
            since=search.position,
            until=self._until,
            partitions=frozenset(search.partitions),
            door=self._door,
        )
        self._pages = old.pages(None, self._way.rows)

    async def _chosen(self, search: Search, rows: Sequence[OldRow], window: Window) -> list[Outgoing]:
        """Messages of those of ``rows``, which have no label, whose message was removed."""
        marks = [Mark.parse(one.mark) or Mark(0, 0, 0) for one in rows]
        contents = [one.contents for one in rows]
        on_the_way = self._way.published.counts_of_any(contents)
        known = window.published.counts_of_any(contents)
        seen: Counter[int] = Counter()
        lost = []
        for (row, *_), mark, passing, there in zip(rows, marks, on_the_way, known, strict=True):
            seen[mark.content] += 1
            if seen[mark.content] <= passing or (mark.micros >= window.begin and seen[mark.content] > there):
                continue
            lost.append(row)
        keys = [(row.row_id, micros_of(row.created_at)) for row in lost]
        have = await augmented(self._client, self._settings, keys) if search.stored and keys else set()
        way = self._way.augmented
        return [
            self._message(search, row, key in have or key_digest(*key) in way)
            for row, key in zip(lost, keys, strict=True)
        ]

    def _message(self, search: Search, row: Row, has_variants: bool) -> Outgoing:
        name = f"{search.id}/{Labeled.made_by}" if has_variants else search.id
        headers = [*headers_of(row), (RECOVERED, name.encode())]
        partition = partition_of(row.text, self._settings.topic_partitions)
        return Outgoing(self._topics.rows, partition, row.row_id.encode(), encode(row), headers)

    async def _publish(self, search: Search) -> bool:
        """Send what was found; False if the readers leave no room for all of it, or some has to wait."""
        assert self._pending is not None
        messages, reached = self._pending
        await self._headroom.refresh()
        some = messages[: self._headroom.left()]
        self._headroom.wrote(len(some))
        if not await self._republisher.send(search, some):
            return False
        if len(some) < len(messages):
            self._pending = messages[len(some) :], reached
            return False
        self._pending, search.position = None, reached
        await self._search_log.save(search)
        return True

    async def _leave_off(self) -> None:
        pages, self._pages, self._pending, self._way = self._pages, None, None, OnTheWay()
        self._inside = False
        if pages is not None:
            await pages.aclose()

    # --- the end ---

    async def _close(self, search: Search) -> None:
        """Once the published rows are stored, the losses are repaired."""
        self._again_at = time.monotonic() + _LOOK_SECONDS
        topics = self._topics
        rows = await self._ends(topics.rows, search)
        if any(rows[number] < end for number, end in search.ends.items()):
            search.done = True  # the topic was recreated, and the published messages are gone
            return
        if not await self._passed(topics.groups.agents.name, topics.rows, search.ends):
            return
        if search.labels is None:
            search.labels = await self._ends(topics.labeled, search)
            await self._search_log.save(search)
        if not await self._passed(topics.groups.sink.name, topics.labeled, search.labels):
            return
        for loss in self._losses.open:
            if search.covers.get(loss.id, -1) >= loss.end:
                await self._search_log.closed(loss)
        search.done = True
        await self._search_log.save(search)
        log.info("lost_rows_found", search=search.id, rows=search.published)

    async def _ends(self, topic: str, search: Search) -> dict[int, int]:
        bounds = await self._tail.bounds_many([Partition(topic, number) for number in search.ends])
        return {where.partition: end for where, (_, end) in bounds.items()}

    async def _passed(self, group: str, topic: str, ends: dict[int, int]) -> bool:
        committed = await self._in_flight.committed(group, topic)
        return all(committed.get(number, -1) >= end for number, end in ends.items())
