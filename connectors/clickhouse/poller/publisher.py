"""Processes a page of the poller: skips known rows, cleans, assigns ids, sends, remembers."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog

from connectors.clickhouse.poller.bulk_page import BulkPage
from connectors.clickhouse.poller.cursor import WindowStarts
from connectors.clickhouse.poller.held_rows import HeldRows, HeldRun, Sending
from connectors.clickhouse.poller.published_rows import Published
from connectors.clickhouse.poller.row_identity import CONTENT, Mark, RowDigests
from connectors.clickhouse.poller.row_messages import NamedMessage, NamedRow, Namer, NewRow
from connectors.clickhouse.source.table import SourceRow
from streams.core.background import gathered
from streams.core.codec import decode
from streams.core.context import TRACEPARENT, about_row
from streams.core.errors import RefusedError, RetryableError
from streams.core.messages import Row
from streams.core.records import Outgoing, Partition, Run, by_partition, partitions_of
from streams.core.topics import Topics
from streams.observability.metrics import Series
from streams.observability.publish_spans import PageSpan, PublishSpans, WatchedRun, watch_one
from streams.ports.kafka import BulkSender, Lease, Tail
from streams.privacy.door import Door
from streams.privacy.erasure import NOTHING

log = structlog.get_logger()


# Younger rows, in microseconds, may count as future rows for a cursor that is saved with another clock.
_NOT_OF_NOW = 60_000_000
_AT_ONCE = 500  # messages on their way where each is confirmed for itself


class OneByOneError(Exception):
    """The topic refuses a row. To find it, the publisher reads its memory again and then sends rows one by
    one.
    """


class _OnTheWay(NamedTuple):
    """Rows of a page that were sent and are not confirmed. ``newest``: of the page. ``bulk_waits``,
    ``row_waits``: seconds of each row, as an array and a list.
    """

    runs: Sequence[HeldRun]
    newest: int
    bulk_waits: Any
    row_waits: Sequence[float]

    @property
    def messages(self) -> int:
        return len(self.bulk_waits) + len(self.row_waits)


class Publisher:
    """Publishes rows of one source table during one ownership."""

    def __init__(
        self,
        source: str,
        topics: Topics,
        *,
        partitions: int,
        least_bytes: int,
        sender: BulkSender,
        lease: Lease,
        counts: Counter[str],
        waited: Series | None = None,
        digests: RowDigests | None = None,
        door: Door | None = None,
        aliases: bool = False,
        spans: PublishSpans | None = None,
    ) -> None:
        """``source``: the table's name, for dead letters. ``least_bytes`` as in `why_skipped`. ``waited``
        observes how long each row existed before it was read. ``digests``: without a key, if none are given.
        ``door``, ``aliases`` as for `Namer`. ``spans``: where traces are exported.
        """
        self.published = Published()
        self.erased = NOTHING  # whose rows are not published; the caller keeps it up to date
        self.held = HeldRows(sender, self.published)
        self.starts = WindowStarts({})
        self._topics = topics
        self._partitions = partitions
        self._sender = sender
        self._lease = lease
        self.sent = 0  # messages that were sent
        self._counts = counts
        self._waited = waited
        self._spans = spans
        self._one_by_one = False
        self._way: _OnTheWay | None = None
        self._unsure = False
        self._namer = Namer(
            source,
            topics,
            partitions=partitions,
            least_bytes=least_bytes,
            counts=counts,
            digests=digests,
            door=door,
            aliases=aliases,
        )

    @property
    def pending(self) -> int:
        """Messages that were sent and are not confirmed."""
        return self._way.messages if self._way is not None else 0

    @property
    def written(self) -> list[Partition]:
        """The partitions that the poller writes rows and dead letters to."""
        return written_partitions(self._topics, self._partitions)

    @property
    def fetched(self) -> list[Partition]:
        """The partitions with rows that were fetched before a poller ever ran. Later fetched rows are not the
        poller's.
        """
        return partitions_of(self._topics.replay, self._partitions)

    async def learn(
        self,
        tail: Tail,
        starts: Mapping[Partition, int],
        begin: int | None,
        ahead: Sequence[Mark],
        now: int,
    ) -> set[Partition]:
        """Forget everything, and read what was published for rows from ``begin`` on. Returns the partitions
        from which retention has removed some of it.

        ``starts``: where to begin on the topics. ``ahead``: future rows in the cursor. ``now``: the source's
        clock, microseconds since 1970.
        """
        await self.held.over()
        self.published, self._unsure = Published(), False
        self.held = HeldRows(self._sender, self.published)
        bounds = await tail.written_many(starts)
        self.starts = WindowStarts({where: end for where, (_, end) in bounds.items()})
        self.published.add(ahead)
        named = {(mark.content, mark.micros) for mark in ahead}
        async for records in tail.read_many(starts, bounds):
            found = []
            for record in records:
                mark = Mark.parse(record.header(CONTENT))
                if mark is None or (begin is not None and mark.micros < begin):
                    continue
                where = Partition(record.topic, record.partition)
                self.starts.add(where, record.offset, record.offset, mark.micros, now)
                if (mark.content, mark.micros) not in named:
                    found.append(mark)
            self.published.add(found)
        return {where for where, start in starts.items() if start < bounds[where][0]}

    async def publish(self, page: BulkPage | Sequence[SourceRow], generation: int, now: int) -> int | None:
        """Process every row of ``page``: published, dead-lettered, or skipped and counted; or `held`.

        ``now``: the source's clock, microseconds since 1970. Returns the newest time of the rows that are
        confirmed or held by now; None if there are none yet, because a page of old rows is confirmed while
        the next one is made. Call it in the order of time, and `finish` or `over` after it.

        Raises:
            OneByOneError: learn, and publish the page again.
            RetryableError: it is unknown what was written; do the same, with a new publisher.
        """
        if self._unsure:
            raise RetryableError("nobody knows what was written of an earlier page")
        self._counts["read"] += len(page)
        self.settle_held()
        stopped = self.held.stopped()
        bulk: BulkPage | None = None
        with _collecting_later():
            if not isinstance(page, BulkPage):
                rows: Sequence[SourceRow] = page
            else:
                ready, rest = page.sorted_out(self.published)
                if self._one_by_one:
                    rest, ready = ready | rest, ready & False
                elif stopped:
                    ready = self._leave_of(page, ready, stopped)
                if self.erased.newest is not None:  # rows that may be erased are looked at one by one
                    old = page.micros <= self.erased.newest
                    for micros in self.erased.beyond:
                        old = old | (page.micros == micros)
                    old = ready & old
                    rest, ready = rest | old, ready & ~old
                bulk, rows = page.only(ready), page.rows(rest)
        newest = page.newest if isinstance(page, BulkPage) else page[-1].micros
        if not bulk:
            await self.finish()
            if self._one_by_one:
                await self._send_rows(rows, stopped, generation, now)
                return newest
        try:
            way = await self._hand_over(bulk, rows, newest, stopped, generation, now)
        except Exception:
            await self.finish()  # earlier errors are raised first: they may be the cause of this one
            raise
        before, self._way = self._way, way
        reached = await self._settle(before) if before is not None else None
        return reached if bulk and newest < now - _NOT_OF_NOW else await self.finish()

    async def finish(self) -> int | None:
        """Wait until everything is confirmed. Returns and raises as `publish`."""
        way, self._way = self._way, None
        return await self._settle(way) if way is not None else None

    async def over(self) -> None:
        """Wait until nothing is being sent any more, whatever the result, before anything is learned. `learn`
        waits for what is held.

        If something was being sent, nothing can be published before it has been learned.
        """
        way, self._way = self._way, None
        if way is not None:
            self._unsure = True
            await self.held.wait(way.runs)
            self.held.runs += [run for run in way.runs if not run.sending.done()]

    def settle_held(self) -> None:
        """Record what was held and is confirmed now. Raises as `publish`."""
        for run in self.held.confirmed():
            with self._refusals():
                self._confirm(run)

    def named(self, page: Sequence[SourceRow]) -> list[NamedRow]:
        """The rows of ``page`` that `publish` would send; it then counts as published. For a backfill."""
        with _collecting_later():
            kept, erased = self._without_erased(self._namer.new_of(page, self.published))
            named, skipped = self._namer.named(kept, self.published)
        self.published.add([*erased, *skipped, *(one.new.mark for one in named)])
        return named

    async def messages_of(self, named: Sequence[NamedRow]) -> list[NamedMessage]:
        """The messages of some of them, masked.

        Raises:
            UnavailableError: nothing can be masked now.
        """
        return await self._namer.messages_of(named)

    def seen(self, page: Sequence[SourceRow]) -> None:
        """As `named`, for rows that nobody needs."""
        new = self._namer.new_of(page, self.published)
        self.published.add([one.mark for one in new])

    async def _new(self, rows: Sequence[SourceRow]) -> tuple[list[NewRow], list[Mark]]:
        """Those of ``rows`` that are not published, masked, and the marks of those that need no message."""
        with _collecting_later():
            new = self._namer.new_of(rows, self.published) if rows else []
            kept, erased = self._without_erased(new)
        masked, short = await self._namer.masked(kept)
        return masked, [*erased, *short]

    def _without_erased(self, new: Sequence[NewRow]) -> tuple[Sequence[NewRow], list[Mark]]:
        """Those of ``new`` that nobody erased, and the marks of the others, by their plain ids."""
        if self.erased.newest is None:
            return new, []
        kept, gone = list[NewRow](), list[Mark]()
        for one in new:
            if self._is_erased(one):
                gone.append(one.mark)
            else:
                kept.append(one)
        self._counts["skipped:erased"] += len(gone)
        return kept, gone

    def _is_erased(self, one: NewRow) -> bool:
        if not self.erased.may_cover(one.row.micros):
            return False
        user = None if one.row.user is None else one.row.user.decode("utf-8", "replace")
        return any(self.erased.covers(row_id, user, one.row.micros) for row_id in self._namer.ids_of(one))

    def _leave_of(self, page: BulkPage, ready: Any, stopped: Collection[Partition]) -> Any:
        """Leave those of the rows ``ready`` that belong to partitions that are ``stopped``; the others."""
        numbers = page.numbers(self._partitions)
        for where in stopped:
            if where.topic == self._topics.rows:
                mine = ready & (numbers == where.partition)
                self.held.leave(where, page.micros[mine], page.contents[mine])
                ready = ready & ~mine
        return ready

    def _sendable(
        self, new: Sequence[NewRow], stopped: Collection[Partition]
    ) -> tuple[list[NamedMessage], list[Mark]]:
        """The messages of ``new`` and the marks of those without one, apart from those for partitions that
        are ``stopped``: these are left."""
        messages, skipped = self._namer.messages(new, self.published) if new else ([], [])
        for where in stopped:
            left = [one.mark for one in messages if one.outgoing[:2] == where]
            self.held.leave(where, [mark.micros for mark in left], [mark.content for mark in left])
        return [one for one in messages if one.outgoing[:2] not in stopped] if stopped else messages, skipped

    async def _hand_over(
        self,
        bulk: BulkPage | None,
        rows: Sequence[SourceRow],
        newest: int,
        stopped: Collection[Partition],
        generation: int,
        now: int,
    ) -> _OnTheWay:
        """Send ``bulk``, whose rows are all new and plain, and ``rows``, both of a page with this ``newest``
        time, without those for partitions that are ``stopped``.

        The next page is compared with them before they are confirmed. If they never are, everything is
        learned again. The cursor does not name them, because it only names future rows.
        """
        page = self._spans.page() if self._spans is not None else None
        new, short = await self._new(rows)
        with _collecting_later():
            messages, skipped = self._sendable(new, stopped)
        polled_at = datetime.now(UTC)
        runs = bulk.runs(self._topics.rows, self._partitions, polled_at) if bulk else []
        runs += _runs(messages)
        watched: Sequence[WatchedRun | None] = [None] * len(runs)
        if page is not None:
            traced = [page.watch(run) for run, _ in runs]
            runs = [(one.run, latest) for one, (_, latest) in zip(traced, runs, strict=True)]
            watched = traced
        confirming: Sequence[Sending] = ()
        if runs:
            await self._lease.hold(generation)
            with self._refusals():
                confirming = await self._sender.hand_over([run for run, _ in runs])
            if page is not None:
                page.handed_over(len(rows) + (len(bulk) if bulk else 0))
        waited: Any = ()
        if bulk:
            self.published.add_columns(bulk.micros, bulk.contents, bulk.ids)
            waited = polled_at.timestamp() - bulk.micros / 1e6
        self.published.add([*short, *skipped, *(one.mark for one in messages)])
        times = [one.mark.micros for one in messages] + ([bulk.oldest] if bulk else [])
        sent = [
            HeldRun(sending, Partition(run.topic, run.partition), latest, min(times), now, trace)
            for sending, (run, latest), trace in zip(confirming, runs, watched, strict=True)
        ]
        way = _OnTheWay(sent, newest, waited, [one.waited for one in messages])
        self.sent += way.messages
        self.held.read_on(way.messages)
        return way

    async def _settle(self, way: _OnTheWay) -> int:
        """Wait until ``way`` is confirmed, or held."""
        await self.held.wait(way.runs)
        held = {run.where for run in self.held.runs}
        waiting = [run for run in way.runs if run.where in held or not run.sending.done()]
        self.held.runs += waiting
        with self._refusals():
            for run in way.runs:
                if run not in waiting:
                    self._confirm(run)
        if self._waited is not None:
            self._waited.observe_all(way.bulk_waits)
            for seconds in way.row_waits:
                self._waited.observe(seconds)
        return way.newest

    def _confirm(self, run: HeldRun) -> None:
        batches = run.sending.result()
        if run.watched is not None:
            run.watched.confirmed(batches)
        (first, _), (last, count) = batches[0], batches[-1]
        self._note(
            run.where, first, last + count - 1, run.newest, run.now, sum(count for _, count in batches)
        )

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except RefusedError as error:
            self._one_by_one = True
            raise OneByOneError(f"the topic refuses a row, so they go one by one: {error}") from error

    async def _send_rows(
        self, rows: Sequence[SourceRow], stopped: Collection[Partition], generation: int, now: int
    ) -> None:
        """Send one by one, and remember what was confirmed: after a refusal it was unknown what else was
        written, and everything was learned again. The refused one becomes a dead letter.
        """
        new, short = await self._new(rows)
        with _collecting_later():
            messages, skipped = self._sendable(new, stopped)
        self.sent += len(messages)
        for start in range(0, len(messages), _AT_ONCE):
            await self._lease.hold(generation)
            some = messages[start : start + _AT_ONCE]
            page = self._spans.page() if self._spans is not None else None
            sent = await gathered([self._send_one(one, page) for one in some])
            if page is not None:
                page.handed_over(len(some))
            self._remember([one for one, _ in sent], [offset for _, offset in sent], now)
        self._one_by_one = self._one_by_one and not messages
        self.published.add([*short, *skipped])

    async def _send_one(self, one: NamedMessage, page: PageSpan | None) -> tuple[NamedMessage, int]:
        """The message, or a dead letter in its place if the topic refuses it, and its offset."""
        try:
            return one, await self._send_traced(one.outgoing, page)
        except RefusedError as error:
            log.warning(
                "row refused by the topic",
                error=str(error),
                **about_row((one.outgoing.key or b"").decode(), dict(one.outgoing.headers).get(TRACEPARENT)),
            )
            value = one.outgoing.value or b""
            letter = self._namer.dead_letter(decode(Row, value), one.mark, len(value))
            return one._replace(outgoing=letter), await self._send_traced(letter, page)

    async def _send_traced(self, message: Outgoing, page: PageSpan | None) -> int:
        if page is None:
            return await self._sender.send(message)
        message, watched = watch_one(page, message)
        offset = await self._sender.send(message)
        watched.confirmed([(offset, 1)])
        return offset

    def _remember(self, sent: Sequence[NamedMessage], offsets: Sequence[int], now: int) -> None:
        places = by_partition(zip(sent, offsets, strict=True), lambda pair: pair[0].outgoing)
        if self._waited is not None:
            for one in sent:
                self._waited.observe(one.waited)
        for where, found in places.items():
            taken = [offset for _, offset in found]
            newest = max(one.mark.micros for one, _ in found)
            self._note(where, min(taken), max(taken), newest, now, len(found))
        self.published.add([one.mark for one in sent])

    def _note(self, where: Partition, first: int, last: int, newest: int, now: int, count: int) -> None:
        """``count`` messages are confirmed, from offset ``first`` to ``last``."""
        if where.topic == self._topics.rows:
            self._counts["published"] += count
        self.starts.add(where, first, last, newest, now)


def written_partitions(topics: Topics, count: int) -> list[Partition]:
    """The partitions that a poller writes rows and dead letters to."""
    return [where for topic in (topics.rows, topics.dead_letter) for where in partitions_of(topic, count)]


def _runs(messages: Sequence[NamedMessage]) -> list[tuple[Run, int]]:
    """``messages`` by partition, each with its newest time, like `BulkPage.runs`."""
    return [
        (Run.of(where, [one.outgoing for one in found]), max(one.mark.micros for one in found))
        for where, found in by_partition(messages, lambda one: one.outgoing).items()
    ]


@contextlib.contextmanager
def _collecting_later() -> Iterator[None]:
    """Without the garbage collector, which would scan the many small objects of a page again and again while
    they are made, for a quarter of the time. The block must not await.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
