"""Publishes a job's rows to the replay topic, each once, whatever interrupts it.

One process publishes at a time, in a consumer group of its own, like the poller: with its lease nobody else
changes what it compares with. What a predecessor published after it last saved its position is read from the
replay topic. Only a few rows are published ahead of the workers, so that a cancelled job stops soon.

Rows for a partition that cannot be written wait, and the others go on. Until they are confirmed the saved
position stays before them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import orjson
import structlog

from connectors.clickhouse.erasure.erased_list import Erased, nothing_erased
from connectors.clickhouse.queries.label_versions import PROMOTED, list_versions
from connectors.clickhouse.queries.labelled_rows import count_of, labelled
from streams.core.background import gathered
from streams.core.codec import (
    CREATED_AT,
    MESSAGE_TYPE,
    RECOVERED,
    REPLAY_JOB,
    SCHEMA_VERSION,
)
from streams.core.context import TRACEPARENT, traceparent_of
from streams.core.digests import Digests, key_digest
from streams.core.errors import RefusedError, RetryableError
from streams.core.messages import Row
from streams.core.records import Outgoing, Partition, Run, by_partition, partitions_of
from streams.core.topics import Topics
from streams.jobs.context import JobContext
from streams.jobs.in_flight_rows import Identity
from streams.jobs.job import Job, Wish, read_jobs
from streams.jobs.leader_election import Leadership
from streams.jobs.masked_source import MaskedRows, way_of
from streams.jobs.sources import Item, Page, RowSource, in_sample
from streams.observability.publish_spans import PublishSpans, WatchedRun
from streams.ports.outages import settled, stopped
from streams.privacy.erasure import ErasureList

log = structlog.get_logger()

_AT_ONCE = 500
# Rows ahead of the workers: what they process in so many seconds, within bounds.
_AHEAD_SECONDS, _LEAST_AHEAD, _MOST_AHEAD = 10.0, 1_000, 20_000
_LOOK_SECONDS = 0.5
_AWAY_SECONDS = 1.0
_NOTE_SECONDS = 10.0
# Messages that wait for partitions that cannot be written, and rows that are published past them.
_MOST_HELD, _MOST_PAST = 10_000, 500_000


class _Sending(NamedTuple):
    """Messages that were handed over. ``watched``: where traces are exported."""

    where: Partition
    messages: int
    watched: WatchedRun | None


class Publishing:
    """Publishes one job during one ownership."""

    def __init__(
        self,
        context: JobContext,
        job: str,
        open_source: Callable[[Job, list[str]], Awaitable[RowSource]],
        owner: Leadership,
        report: Callable[[Job, int], None],
        erased: Erased = nothing_erased,
        mask: MaskedRows | None = None,
        spans: PublishSpans | None = None,
    ) -> None:
        """``open_source`` is called with the job and the ids of its rows that are published and not recorded.

        ``report`` is called with the job and the number of its rows that the workers have not processed.
        ``erased``: whose rows are not published. ``mask``: masks the rows that are chosen.
        ``spans``: where traces are exported.
        """
        self._spans = spans
        self._mask = mask
        self._erased = erased
        self._context = context
        self._id = job
        self._open_source = open_source
        self._sender = owner.sender
        self._lease = owner.lease
        self._generation = owner.generation
        self._report = report
        self._ahead = Backpressure(context)
        self._ends: dict[int, int] = {}
        self._sent: set[Identity] = set()
        self._way = Digests()
        self._compare = False
        self._one_by_one = False
        self._noted: Job | None = None
        self._noted_at = 0.0
        self._sending: dict[asyncio.Task[list[tuple[int, int]]], _Sending] = {}

    async def run(self) -> Job:
        """Publish until everything is published, or somebody wishes otherwise.

        Raises:
            LeaseLostError: another process publishes now.
            ConfigurationError, AccessError: a person must change something.
        """
        while True:
            try:
                return await self._publish()
            except RetryableError as error:
                await self._lease.hold(self._generation)
                log.warning("replay_waits", job=self._id, reason=str(error))
                await asyncio.sleep(_AWAY_SECONDS)

    async def _publish(self) -> Job:
        if self._sending:  # it must not be written behind the back of what is learned now
            await asyncio.wait(self._sending)
            self._sending = {}
        job = (await read_jobs(self._context.settings, self._context.tail)).named(self._id)
        if job.complete or self._stopped:
            return job
        await self._learn(job)
        source = await self._open_source(job, [row_id for row_id, _ in self._sent])
        chosen = in_sample(job.sample)
        job.published += len(self._sent)
        await self._save(job)
        async for page in source.pages(job.position):
            items = await self._select(job, page, chosen)
            if not await self._send_masked(job, items):
                await self._all_confirmed()
                return job
            await self._hand_over([_on_its_way(one, job) for one in page.letters if _in_sample(one, chosen)])
            job.read += len(page.items) + page.unreadable + page.settled + page.skipped
            job.unreadable += page.unreadable
            job.settled += page.settled
            job.skipped += page.skipped
            job.position = page.position
            job.replay_starts = dict(self._ends)
            self._sent -= {item.identity for item in page.items}
            if self._holds_too_many(job):
                await self._all_confirmed()
            if self._stopped:
                await self._all_confirmed()
                await self._save(job)
                return job
            if self._sending:
                await self._touch()
            elif page.items or page.letters or time.monotonic() - self._noted_at > _NOTE_SECONDS:
                await self._save(job)
            if job.limit is not None and job.published >= job.limit:
                break
        await self._all_confirmed()
        job.complete, job.replay_ends = True, dict(self._ends)
        await self._save(job)
        return job

    @property
    def _stopped(self) -> bool:
        return self._context.jobs.wish(self._id) is not Wish.RUN

    async def _learn(self, job: Job) -> None:
        """Find out what was published since the position was saved, what is in flight, and whether the tables
        must be asked.
        """
        context = self._context
        replay_id = str(await context.admin.topic_id(context.topics.replay))
        where = partitions_of(context.topics.replay, context.settings.topic_partitions)
        # Also what the owner before wrote and nobody can see yet, because a replica is slow.
        bounds = await context.tail.written_many(where)
        self._ends = {place.partition: end for place, (_, end) in bounds.items()}
        self._sent = set()
        if job.replay_topic_id != replay_id:
            if job.replay_topic_id:
                # The topic was recreated, and its messages are gone: start again; labelled rows are left out.
                log.warning("topic_made_anew", topics=[context.topics.replay])
                job.position = None
                job.read = job.published = job.settled = job.unreadable = job.skipped = 0
            job.replay_topic_id, job.replay_starts = replay_id, dict(self._ends)
        else:
            own = {Partition(context.topics.replay, n): at for n, at in job.replay_starts.items()}
            async for records in context.tail.read_many(own, bounds):
                for record in records:
                    if record.header(REPLAY_JOB) == job.id.encode():
                        key = (record.key or b"").decode()
                        self._sent.add((key, record.header(CREATED_AT) or b""))
        if job.version is not None and not job.repeats:
            live = any(
                one.version == job.version and (one.status == PROMOTED or one.live)
                for one in await list_versions(context.client, context.settings)
            )
            self._way = await context.in_flight.under(job.version, live=live)
            endless = job.source == "live"  # later rows may meet labels that there are none of yet
            self._compare = (
                live or endless or await count_of(context.client, context.settings, job.version) > 0
            )

    async def _select(self, job: Job, page: Page, chosen: Callable[[Item], bool]) -> list[Item]:
        """The rows of ``page`` to be published."""
        every = [item for item in page.items if item.identity not in self._sent and chosen(item)]
        erased = await self._erased()
        items = [item for item in every if not _is_erased(item, erased)]
        job.settled += len(every) - len(items)
        if job.version is None or job.repeats:
            return items  # the source has compared them
        new = [item for item in items if key_digest(*item.identity) not in self._way]
        if self._compare and new:
            keys = [(item.row_id, item.micros) for item in new]
            known = await labelled(self._context.client, self._context.settings, job.version, keys)
            new = [item for item in new if (item.row_id, item.micros) not in known]
        job.settled += len(items) - len(new)
        return new

    async def _send_masked(self, job: Job, items: list[Item]) -> bool:
        """Only what is published is masked: a sample of many rows is cheap. False as of `_send`."""
        while items:
            left = len(items) if job.limit is None else job.limit - job.published
            some, items = items[: max(left, 0)], items[left:]
            if not some:
                return True
            letters: Sequence[Outgoing] = ()
            if self._mask is not None:
                some, letters = await self._mask(some)
            if not await self._send(job, some):
                return False
            await self._hand_over(letters)
            job.unreadable += len(letters)
        return True

    async def _send(self, job: Job, items: list[Item]) -> bool:
        """False if somebody wishes the job to stop."""
        topics = self._context.topics
        start = 0
        while start < len(items):
            while not (room := await self._ahead.room(self._ends)):
                self._report(job, self._ahead.outstanding)
                await self._lease.hold(self._generation)
                await self._touch()
                if self._stopped:
                    return False
                await asyncio.sleep(_LOOK_SECONDS)
            if self._stopped:
                return False
            some = items[start : start + room]
            start += len(some)
            messages = [_message(item, job, topics) for item in some]
            if self._one_by_one:
                await self._lease.hold(self._generation)
                await self._send_each(job, messages)
            else:
                await self._hand_over(messages)
                job.published += len(messages)
            self._context.headroom.wrote(len(messages))
            self._report(job, self._ahead.outstanding)
        return True

    async def _hand_over(self, messages: Sequence[Outgoing]) -> None:
        """Send, and wait for the confirmations, apart from partitions that cannot be written now."""
        if not messages:
            return
        places = by_partition(messages, lambda message: message)
        await self._lease.hold(self._generation)
        runs = [Run.of(*one) for one in places.items()]
        watched: Sequence[WatchedRun | None] = [None] * len(runs)
        if self._spans is not None:
            page = self._spans.page()
            traced = [page.watch(run) for run in runs]
            runs, watched = [one.run for one in traced], traced
        tasks = await self._sender.hand_over(runs)
        if self._spans is not None:
            page.handed_over(len(messages))
        self._sending |= {
            task: _Sending(where, len(some), one)
            for task, (where, some), one in zip(tasks, places.items(), watched, strict=True)
        }
        await self._confirm()

    async def _confirm(self) -> None:
        await settled(
            [(task, one.where) for task, one in self._sending.items()],
            lambda: stopped(self._sender.outages),
        )
        done = {task: self._sending.pop(task) for task in list(self._sending) if task.done()}
        try:
            for task, (where, _, watched) in done.items():
                if watched is not None:
                    watched.confirmed(task.result())
                for first, count in task.result():
                    if where.topic == self._context.topics.replay:
                        end = self._ends.get(where.partition, 0)
                        self._ends[where.partition] = max(end, first + count)
        except RefusedError as error:
            self._one_by_one = True
            raise RetryableError(f"the topic refuses a row, so they go one by one: {error}") from error

    def _holds_too_many(self, job: Job) -> bool:
        """Held messages keep their bytes; what was published after the saved position is read again after a
        crash."""
        past = len(self._sent) + job.published - (self._noted.published if self._noted is not None else 0)
        return sum(one.messages for one in self._sending.values()) > _MOST_HELD or past > _MOST_PAST

    async def _all_confirmed(self) -> None:
        while self._sending:
            await self._confirm()
            if self._sending:
                await self._lease.hold(self._generation)
                await self._touch()
                await asyncio.sleep(_LOOK_SECONDS)

    async def _send_each(self, job: Job, messages: list[Outgoing]) -> None:
        offsets = await gathered([self._send_one(message) for message in messages])
        for message, offset in zip(messages, offsets, strict=True):
            if offset is None:
                job.unreadable += 1
                continue
            self._ends[message.partition] = max(self._ends[message.partition], offset + 1)
            job.published += 1

    async def _send_one(self, message: Outgoing) -> int | None:
        """Its offset; None if the topic refuses it."""
        try:
            return await self._sender.send(message)
        except RefusedError as error:
            log.warning("row refused by the topic", row_id=(message.key or b"").decode(), error=str(error))
            return None

    async def _save(self, job: Job) -> None:
        """Save the progress: everything before ``position`` is done."""
        job.updated_at = datetime.now(UTC)
        await self._lease.hold(self._generation)
        await self._sender.send(job.message(self._context.topics))
        self._noted, self._noted_at = job.model_copy(), time.monotonic()
        self._report(job, self._ahead.outstanding)

    async def _touch(self) -> None:
        """Show that the publisher is running, also in the middle of a page."""
        if self._noted is not None and time.monotonic() - self._noted_at > _NOTE_SECONDS:
            await self._save(self._noted)


class Backpressure:
    """The number of published rows that the workers have not processed, and the allowed number: what they
    process soon, and never so much that retention could remove rows unread.
    """

    def __init__(self, context: JobContext) -> None:
        self.outstanding = 0
        self._lags = context.lags
        self._headroom = context.headroom
        self._topic = context.topics.replay
        self._group = context.topics.groups.agents.name
        self._committed: dict[int, int] = {}
        self._looked = float("-inf")
        self._pace = 0.0  # rows a second

    async def room(self, ends: Mapping[int, int]) -> int:
        """How many rows may be published now. ``ends``: by partition, the offset after the last published
        message.
        """
        await self._headroom.refresh()
        now = time.monotonic()
        if now - self._looked > _LOOK_SECONDS:
            found = await self._lags.positions(self._group, [self._topic])
            committed = {where.partition: max(commit.offset, 0) for where, commit in found.items()}
            if self._committed:
                done = sum(max(0, at - self._committed.get(number, 0)) for number, at in committed.items())
                self._pace += 0.3 * (done / (now - self._looked) - self._pace)
            self._committed, self._looked = committed, now
        self.outstanding = sum(max(0, end - self._committed.get(number, 0)) for number, end in ends.items())
        if self.outstanding >= min(max(self._pace * _AHEAD_SECONDS, _LEAST_AHEAD), _MOST_AHEAD):
            return 0
        return min(_AT_ONCE, self._headroom.left())


def _message(item: Item, job: Job, topics: Topics) -> Outgoing:
    headers = [
        (MESSAGE_TYPE, Row.message_type.encode()),
        (SCHEMA_VERSION, Row.schema_version.encode()),
        (CREATED_AT, item.created_at),
        (TRACEPARENT, traceparent_of(item.row_id, item.created_at)),
        *item.headers,
        *way_of(job),
    ]
    if job.repeats:
        # They have a label under this version, which is to be made anew, by the model: the job's own name
        # says so.
        headers.append((RECOVERED, job.id.encode()))
    elif job.lost:
        # The worker may remember a label that the topic has lost.
        headers.append((RECOVERED, f"{job.id}-{sum(job.lost.values())}".encode()))
    return Outgoing(topics.replay, item.partition, item.row_id.encode(), item.value, headers)


def _in_sample(letter: Outgoing, chosen: Callable[[Item], bool]) -> bool:
    created_at = dict(letter.headers).get(CREATED_AT)
    row_id = (letter.key or b"").decode("utf-8", "replace")
    return created_at is None or chosen(Item(row_id, created_at, 0, "", 0, b""))


def _on_its_way(letter: Outgoing, job: Job) -> Outgoing:
    """With the headers by which a retry goes where the job's rows go."""
    return letter._replace(headers=[*letter.headers, *way_of(job)])


def _is_erased(item: Item, erased: ErasureList) -> bool:
    if not erased.may_cover(item.micros):
        return False
    return erased.covers(item.row_id, orjson.loads(item.value).get("user_id"), item.micros)
