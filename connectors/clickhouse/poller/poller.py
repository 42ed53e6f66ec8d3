"""The poller: publishes every row of the source table on the rows topic, once.

Reading only rows "newer than the last" loses rows: they become visible late and out of order, and many share
one second. So each poll reads again from a little before the newest row, and the whole look-back window is
compared with what was published, by content. What was published is read from the topic itself, from the
offsets in the cursor on. After a crash at any point rows are read a second time, and none is published twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Iterable
from typing import TypeVar

import structlog

from connectors.clickhouse.erasure.erased_list import Erased, nothing_erased
from connectors.clickhouse.poller.bulk_source import BulkSource
from connectors.clickhouse.poller.cursor import MOST_AHEAD, Cursor, read_cursor
from connectors.clickhouse.poller.lost.lost_rows import LostRows
from connectors.clickhouse.poller.lost.search import Window
from connectors.clickhouse.poller.page_split import Page, split
from connectors.clickhouse.poller.publisher import OneByOneError, Publisher
from connectors.clickhouse.poller.read_ahead import one_ahead
from connectors.clickhouse.poller.row_identity import Mark, RowDigests
from connectors.clickhouse.poller.unread_source import UnreadSource
from connectors.clickhouse.poller.untimed_rows import MOST, Timeless
from streams.core.errors import ConfigurationError, RetryableError
from streams.core.records import Outgoing
from streams.core.settings import Settings
from streams.core.times import moment
from streams.core.topics import Topics
from streams.observability.metrics import Series
from streams.observability.publish_spans import PublishSpans
from streams.ports.kafka import BulkSender, Headroom, Lease, Tail, TopicIds
from streams.privacy.door import Door, refuse_unmasked

log = structlog.get_logger()

T = TypeVar("T")

_SECOND = 1_000_000
# How far before the newest row each poll begins: rows of one moment rarely become visible at the same moment.
_OVERLAP = 2 * _SECOND
_LOOK_BACK_SECONDS = 3.0
_SAVE_SECONDS = 5.0
# A comparison by counts misses a row that was added while another was deleted. Whole readings do not miss it,
# and each row is in the window for several of them.
_WHOLE_READINGS = 4
_WHOLE_SECONDS = 5.0
_MOST_GAPS = 50
_AWAY_SECONDS = 1.0
_HELD_SECONDS = 0.25
# Rows at once where they are masked: with names that takes seconds, in which the ownership may end.
_MASKED_ROWS, _MASKED_BYTES = 2_000, 400_000
# The pause after a poll, in times of its duration, where each poll reads all rows of a day.
_REST = 3.0


class _SourceAwayError(Exception):
    """ClickHouse does not answer, or a person must change a setting; waiting loses nothing."""


class Poller:
    """Polls during one ownership of the cursor's partition.

    ``counts``: `polls`, `read` (rows read), `published`, `skipped:REASON`, `same_id`, `without_time`,
    `dead_letters:REASON`. ``watermark``: how far the table was read, microseconds since 1970. ``polled_at``:
    when it was last read without an error, seconds since 1970.
    """

    def __init__(
        self,
        source: BulkSource,
        topics: Topics,
        settings: Settings,
        *,
        partitions: int,
        sender: BulkSender,
        tail: Tail,
        topic_ids: TopicIds,
        lease: Lease,
        headroom: Headroom,
        lost: LostRows,
        generation: int,
        ending: asyncio.Event,
        counts: Counter[str] | None = None,
        waited: Series | None = None,
        door: Door | None = None,
        erased: Erased = nothing_erased,
        spans: PublishSpans | None = None,
    ) -> None:
        """``partitions``: number of partitions of the rows topic. ``headroom``: of the rows topic. ``lost``:
        finds lost rows. ``ending``: set when the group revokes the ownership. ``waited`` observes how long
        each row existed before it was read. ``door``: what masks the rows.
        ``erased``: whose rows are not published. ``spans``: where traces are exported.

        Raises:
            ConfigurationError: rows are to be masked, and there is no ``door``.
        """
        refuse_unmasked(settings, door)
        self._erased = erased
        self._most = _MASKED_ROWS if door is not None else None
        self._digests = RowDigests.of(settings)
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.watermark: int | None = None
        self.polled_at: float | None = None
        self._source = source
        self._topics = topics
        self._settings = settings
        self._sender = sender
        self._tail = tail
        self._topic_ids = topic_ids
        self._lease = lease
        self._headroom = headroom
        self._lost = lost
        self._partitions = partitions
        self._held = False  # readers or partitions leave no room, so that rows were left in the table
        self._generation = generation
        self._ending = ending
        self._publisher = Publisher(
            source.name,
            topics,
            partitions=partitions,
            least_bytes=settings.min_text_length,
            sender=sender,
            lease=lease,
            counts=self.counts,
            waited=waited,
            digests=self._digests,
            door=door,
            spans=spans,
        )
        self._timeless = Timeless(
            topics.dead_letter,
            source.name,
            partitions=partitions,
            least_bytes=settings.min_text_length,
            sender=sender,
            counts=self.counts,
            digests=self._digests,
            private=door is not None,
        )
        self._coarse = 0  # see `Cursor`
        self._refused = ""
        self._unread = UnreadSource(source, self.counts, 0)
        self._floor: int | None = None
        self._begin: int | None = None  # of the look-back window; None: at the table's first row
        self._newest_seen = 0
        self._skew = 0  # the server's clock minus ours
        self._ids: dict[str, str] = {}
        self._saved: Cursor | None = None
        self._generations: list[int] = []  # of the secret, with which rows were ever published
        self._saved_at = 0.0
        self._said_away = ""

    @property
    def problem(self) -> str:
        """Why the table cannot be read, or nothing of it is published; empty without a reason."""
        return self._refused or self._unread.problem

    @property
    def published_until(self) -> int | None:
        """The time, microseconds since 1970, before which all rows that were seen are on the topic."""
        held = self._publisher.held.oldest
        if self.watermark is None or held is None:
            return self.watermark
        return min(self.watermark, held)

    @property
    def _lookback(self) -> int:
        """How far before the newest row the window begins, microseconds."""
        return int(self._settings.poll_lookback_seconds * _SECOND) + self._coarse

    async def run(self) -> None:
        """Poll until ``ending`` is set; a page in progress is finished and recorded first.

        Raises:
            RetryableError: Kafka was down; start again, because it is unknown what was written.
        """
        while not self._ending.is_set():
            try:
                await self._inspect()
                await self._learn()
                await self._poll()
                return
            except _SourceAwayError as error:
                await self._away(error)
            except OneByOneError as error:
                log.warning("poller_learns_again", reason=str(error))
            finally:
                await self._lost.close()

    async def _poll(self) -> None:
        looked_back = whole = float("-inf")
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                every = max(_WHOLE_SECONDS, self._settings.poll_lookback_seconds / _WHOLE_READINGS)
                if (read_whole := began - whole > every) or self._publisher.held.oldest is not None:
                    self._tell_clock(await _ask(self._source.now()))
                await self._find_lost()
                await self._read_again()
                if read_whole:
                    await self._scan(self._source.bulk(self._begin))
                    await self._give_up_timeless()
                    whole = looked_back = began
                else:
                    newest = self._fast_begin()
                    await self._scan(self._source.newest(newest, self._tell_clock))
                    if began - looked_back > max(_LOOK_BACK_SECONDS, self._settings.poll_interval_seconds):
                        await self._fill_gaps(newest)
                        looked_back = began
                self._back()
                self.polled_at = time.time()
                await _ask(self._unread.check(self._floor))
                if self._held:
                    await self._wait_for_room()
                    # Rows may have appeared late meanwhile: the window is read before it moves.
                    whole = float("-inf")
            except _SourceAwayError as error:
                await self._away(error)
            self.counts["polls"] += 1
            await self._save()
            took = time.monotonic() - began
            pause = self._settings.poll_interval_seconds - took
            await _wait(self._ending, max(pause, _REST * took) if self._coarse else pause)
        if self._lease.held():
            await self._save(now=True)

    async def _find_lost(self) -> None:
        """Not while rows are held: they are neither labelled nor on the topic, and not lost."""
        if self.watermark is not None and self._publisher.held.oldest is None:
            begin = self._begin if self._begin is not None else self.watermark - self._lookback
            await self._lost.step(
                Window(begin, self.watermark, self._floor, self._publisher.published, self._generations)
            )

    # --- the start ---

    async def _inspect(self) -> None:
        await _ask(self._source.verify())
        self._coarse = await _ask(self._source.coarseness())

    async def _learn(self) -> None:
        self._tell_clock(await _ask(self._source.now()))
        cursor = self._saved = await read_cursor(self._tail, self._topics.cursor, self._source.name)
        written = self._publisher.written
        if cursor is None or self._topics.replay in cursor.starts:
            written = [*written, *self._publisher.fetched]
        topics = sorted({where.topic for where in written})
        self._ids = {topic: str(await self._topic_ids.topic_id(topic)) for topic in topics}
        self._floor = cursor.floor if cursor else await self._first_floor()
        self.watermark = (cursor.watermark or None) if cursor else self._floor
        self._begin = self._window_begin()
        known = {
            topic: cursor.starts.get(topic, {}) if cursor and cursor.topic_ids.get(topic) == number else {}
            for topic, number in self._ids.items()
        }
        starts = {where: known[where.topic].get(where.partition, 0) for where in written}
        ahead = [mark for text in (cursor.ahead if cursor else ()) if (mark := Mark.parse(text.encode()))]
        cut = await self._publisher.learn(self._tail, starts, self._begin, ahead, self._now())
        await _ask(self._know_generations(cursor.generations if cursor else (), every=bool(cut)))
        if self.watermark is not None and any(where.partition in known[where.topic] for where in cut):
            await _ask(self._remember(self.watermark))
        log.info(
            "poller_begins",
            source=self._source.name,
            watermark=moment(self.watermark).isoformat() if self.watermark is not None else None,
            remembered=len(self._publisher.published),
        )
        self._timeless.learn(cursor.timeless if cursor else ())
        self._unread = UnreadSource(self._source, self.counts, len(self._publisher.published))
        await self._save(now=True)  # the floor of POLL_START=now must outlive a crash

    async def _know_generations(self, noted: Iterable[int], *, every: bool) -> None:
        """``noted``: in the cursor. ``every``: each of them may have rows in the window.

        Raises:
            ConfigurationError: rows of the window were published with a secret that is no longer there.
        """
        there = self._publisher.published.generations()
        self._digests.require(there.union(noted) if every else there, "rows of the look-back window")
        self._generations = sorted(there.union(noted, [self._digests.generation]))

    async def _remember(self, watermark: int) -> None:
        """Retention has removed messages about rows of the window: the tables say which were published.

        Either nothing was written for so long, or the topic keeps its messages for less time than the window.
        """
        begin = self._begin if self._begin is not None else watermark - self._lookback
        log.warning("poller_asks_the_tables", reason="retention removed messages of the look-back window")
        await self._lost.remember(self._publisher.published, begin, watermark + 1, self._partitions)

    async def _first_floor(self) -> int | None:
        return await _ask(self._source.floor(self._settings.poll_start))

    @property
    def _settled(self) -> int | None:
        """As ``watermark``, but rows that are held stay in the window before it."""
        held = self._publisher.held.oldest
        if self.watermark is None or held is None:
            return self.watermark
        return min(self.watermark, held + self._lookback)

    def _window_begin(self) -> int | None:
        if (settled := self._settled) is None:
            return self._floor
        begin = settled - self._lookback
        return begin if self._floor is None else max(begin, self._floor)

    # --- reading ---

    def _tell_clock(self, now: int) -> None:
        """``now``: the server's clock at this moment. Every reading tells it before its rows are published:
        it may have been set since, and a row of the present would be taken for one of the future.
        """
        self._skew = now - int(time.time() * _SECOND)

    def _now(self) -> int:
        """The server's clock, microseconds since 1970."""
        return int(time.time() * _SECOND) + self._skew

    def _fast_begin(self) -> int | None:
        """Where a poll for the newest rows begins. A few rows with future times do not hide those of the
        present; many mean a wrong clock or time zone, and then the newest of them counts.
        """
        if self.watermark is None:
            return self._begin
        newest, now = self.watermark, self._now()
        if self._newest_seen > now and self._publisher.published.count_since(now) > MOST_AHEAD:
            newest = self._newest_seen
        return newest - _OVERLAP if self._begin is None else max(newest - _OVERLAP, self._begin)

    async def _read_again(self) -> None:
        """Publish the rows that were left in the table, of partitions that can be written again."""
        self._publisher.settle_held()
        held = self._publisher.held
        begin = held.take_back()
        if begin is not None and await self._scan(self._source.bulk(begin)):
            held.read_again()

    async def _scan(self, pages: AsyncGenerator[Page, None]) -> bool:
        """Publish ``pages``: while one is being confirmed, the next is made, and the one after it is read.

        Ends early, and returns False, if there is no room or the ownership ends; then the rest is not
        processed.
        """
        if self._held:
            return False

        async def following() -> Page | None:
            return await _next(pages)

        found: AsyncGenerator[Page, None] = one_ahead(following)
        whole = False
        try:
            async with contextlib.aclosing(pages), contextlib.aclosing(found):
                async for page in found:
                    if self._ending.is_set():
                        break
                    await self._publish(page)
                    del page  # not kept while the next one is awaited
                    if self._held or self._ending.is_set():
                        break
                else:
                    whole = True
            await self._reached(await self._publisher.finish())
            return whole
        except _SourceAwayError:
            await self._reached(await self._publisher.finish())
            raise
        finally:
            await self._publisher.over()

    async def _publish(self, page: Page) -> None:
        rest: Page | None = page
        while rest is not None and not (self._most is not None and self._ending.is_set()):
            await self._headroom.refresh(pending=self._publisher.pending)
            left = self._headroom.left()
            if not left or self._publisher.held.full:
                self._held = True
                return
            most = left if self._most is None else min(left, self._most)
            bytes_ = None if self._most is None else _MASKED_BYTES
            part, rest = split(rest, most, self._publisher.published, most_bytes=bytes_)
            sent = self._publisher.sent
            self._publisher.erased = await _ask(self._erased())
            reached = await self._publisher.publish(part, self._generation, self._now())
            self._headroom.wrote(self._publisher.sent - sent)
            await self._reached(reached)

    async def _wait_for_room(self) -> None:
        """The remaining rows are read again from the table later, and need no memory here."""
        asked, held, said = time.monotonic(), self._publisher.held, False
        while not self._ending.is_set() and (held.full or not self._headroom.left()):
            if held.full and not said:
                said = True
                places = [f"{where.topic}/{where.partition}" for where in sorted(held.stopped())[:10]]
                log.warning("waits_for_partitions", partitions=places, reason="too many rows wait for them")
            await self._save()
            await _wait(self._ending, _HELD_SECONDS)
            await self._headroom.refresh()
            self._publisher.settle_held()
            if time.monotonic() - asked > _LOOK_BACK_SECONDS:
                self._tell_clock(await _ask(self._source.now()))
                self.polled_at = time.time()
                asked = time.monotonic()
        self._held = False

    async def _reached(self, micros: int | None) -> None:
        """Everything up to ``micros`` was read and processed, or is held."""
        if micros is None:
            return
        self._newest_seen = max(self._newest_seen, micros)
        # A row with a future time must not move the window past rows that are still to come.
        reached = min(micros, self._now())
        self.watermark = reached if self.watermark is None else max(self.watermark, reached)
        begin = self._window_begin()
        if begin is not None and (self._begin is None or begin > self._begin + self._lookback // 20):
            self._begin = begin
            self._publisher.published.forget_before(begin)
        await self._save()

    async def _fill_gaps(self, until: int | None) -> None:
        """Read those seconds of the window again whose number of rows differs from the known one."""
        begin = self._begin
        if begin is None or until is None or until <= begin:
            return
        there = await _ask(self._source.counts(begin, until))
        known = self._publisher.published.per_second(begin, until)
        seconds = sorted(second for second, count in there.items() if known.get(second, 0) != count)
        if len(seconds) > _MOST_GAPS:
            await self._scan(self._source.bulk(begin, until))
            return
        for second in seconds:
            first, last = max(second * _SECOND, begin), min((second + 1) * _SECOND, until)
            await self._scan(self._source.pages(first, last))

    async def _give_up_timeless(self) -> None:
        rows = await _ask(self._source.timeless(MOST))
        self.counts["without_time"] = len(rows)
        if not self._ending.is_set():
            await self._lease.hold(self._generation)
            if await self._timeless.settle(rows):
                await self._save(now=True)

    # --- the cursor ---

    async def _save(self, *, now: bool = False) -> None:
        """Save the cursor, at most once in some seconds. Everything that it refers to is confirmed."""
        if self.watermark is None and self._timeless.settled:
            self.watermark = 0  # no row with a time so far
        if self.watermark is None or not (now or time.monotonic() - self._saved_at > _SAVE_SECONDS):
            return
        published, at = self._publisher.published, self._now()
        if self._publisher.held.newer_than(at):
            return  # a cursor names future rows as published
        settled = self._settled
        assert settled is not None
        named = published.count_since(at) <= MOST_AHEAD
        begin = self._begin if self._begin is not None else settled - self._lookback
        cursor = Cursor(
            watermark=settled,
            floor=self._floor,
            coarse=self._coarse,
            starts={
                topic: places
                for topic, places in self._publisher.starts.at(begin, ahead_named=named).items()
                if topic != self._topics.replay or self._publisher.starts.remembers(topic)
            },
            topic_ids=self._ids,
            ahead=[mark.header().decode() for mark in published.since(at)] if named else [],
            timeless=sorted(self._timeless.settled),
            generations=self._generations,
        )
        if cursor != self._saved:
            await self._lease.hold(self._generation)
            key = self._source.name.encode()
            await self._sender.send(Outgoing(self._topics.cursor, 0, key, cursor.encode()))
            self._saved = cursor
        self._saved_at = time.monotonic()

    # --- a source that is down ---

    async def _away(self, error: _SourceAwayError) -> None:
        """Log it once, and wait a little."""
        cause = error.__cause__
        self._refused = str(cause) if isinstance(cause, ConfigurationError) else ""
        kind = f"{type(cause).__name__} {getattr(cause, 'setting', '')}"
        if kind != self._said_away:
            self._said_away = kind
            log.warning(
                "the source table cannot be read" if self._refused else "waiting for ClickHouse",
                reason=str(cause),
                setting=getattr(cause, "setting", "") or "CLICKHOUSE_HOST",
                fix=getattr(cause, "fix", "") or None,
            )
        await _wait(self._ending, _AWAY_SECONDS)

    def _back(self) -> None:
        self._refused = ""
        if self._said_away:
            self._said_away = ""
            log.info("ClickHouse is there")


async def _ask(answer: Awaitable[T]) -> T:
    """An answer of the source; distinguishes errors of reading from errors of publishing."""
    try:
        return await answer
    except (RetryableError, ConfigurationError) as error:
        raise _SourceAwayError(str(error)) from error


async def _next(pages: AsyncGenerator[Page, None]) -> Page | None:
    try:
        return await _ask(anext(pages))
    except StopAsyncIteration:
        return None


async def _wait(ending: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(ending.wait(), max(seconds, 0.001))
    except TimeoutError:
        return
