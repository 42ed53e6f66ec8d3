"""Runs a job: publish its rows, then wait for the workers and for the sink."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import structlog

from connectors.clickhouse.erasure.erased_list import ErasedRows
from connectors.clickhouse.poller.backfill import OldRows, poller_begins
from connectors.clickhouse.poller.cursor import read_cursor
from connectors.clickhouse.poller.row_identity import RowDigests
from connectors.clickhouse.poller.settled_rows import PassingRows, texts_differ
from connectors.clickhouse.queries.places import Key
from connectors.clickhouse.queries.relabel_rows import Condition, LabelledRows
from connectors.clickhouse.queries.watching.cascade_rows import ProxyLabelledRows
from streams.core.availability import until_available
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from streams.jobs.context import JobContext, count_unlabeled, count_unstored, note, open_context, read_ends
from streams.jobs.file_source import open_file_source
from streams.jobs.job import Job, Wish, read_cursor_topic
from streams.jobs.judged_first import JudgedFirst, judged_texts
from streams.jobs.leader_election import Leadership, PollerSubstitute, ReplayPublisher
from streams.jobs.masked_source import MaskedRows
from streams.jobs.publishing import Publishing
from streams.jobs.sources import RowSource, SourceFeed, TableFeed, TopicFeed
from streams.observability.publish_spans import PublishSpans
from streams.observability.tracer import Tracer
from streams.runtime.tracing import traced

log = structlog.get_logger()

Report = Callable[[Job, int], None]
_COUNTS = ("read", "published", "settled", "unreadable", "skipped")
_LOOK_SECONDS = 0.5


async def run_job(settings: Settings, job: str, report: Report, *, wait: bool = True) -> dict[str, Any]:
    """Publish the rest of ``job``; with ``wait`` also wait until its labels are stored. Returns its state.

    ``report`` is called with the job and the number of its rows that the workers have not processed.

    Raises:
        ConfigurationError: no such job, or its source is gone.
    """
    async with open_context(settings) as context:
        found = context.jobs.named(job)
        if context.jobs.wish(job) is Wish.DROP:
            raise ConfigurationError(f"replay {job} was dropped", fix="begin a new one")
        if found.source == "live":
            return context.jobs.as_dict(found)  # the poller runs it
        run = JobRun(context, job, report)
        while not found.done and context.jobs.wish(job) is Wish.RUN:
            if not found.complete:
                found = await run.publish()
            if not found.complete or not wait:
                break
            found = await run.finish(found)
        return context.jobs.as_dict(found)


async def find_poller_start(context: JobContext) -> int | None:
    """Rows from this time on are the poller's, in microseconds since 1970; None: no poller ever ran.

    Raises:
        UnavailableError, AccessError.
        ConfigurationError: a generation of the secret is missing by which older rows are recognised.
    """
    cursor = await read_cursor(context.tail, context.topics.cursor, context.settings.source_table)
    if cursor is None:
        return None
    RowDigests.of(context.settings).require(cursor.generations, "rows")
    return poller_begins(cursor, context.settings)


async def open_row_source(context: JobContext, job: Job, sent: Sequence[str] = ()) -> RowSource:
    """The source of the rows of ``job``; those of the source table are masked where that is asked for.
    ``sent``: ids of its rows that are published and not recorded.

    Raises:
        ConfigurationError: the rows topic was recreated since the job began.
    """
    settings, topics = context.settings, context.topics
    if job.source == "topic":
        if str(await context.admin.topic_id(topics.rows)) != job.source_topic_id:
            raise ConfigurationError(
                f"topic {topics.rows} was deleted and made again since replay {job.id} began",
                fix="begin a new one with --from-table: it leaves out what is labelled already",
            )
        return TopicFeed(context.tail, topics.rows, job, JudgedFirst(await _judged(context, job)))
    if job.source == "file":
        return await open_file_source(context, job, sent)
    if job.source == "table" and job.proxy_since is not None:
        assert job.version is not None
        wrong = ProxyLabelledRows(context.client, settings, job.version, job.proxy_since)
        return TableFeed([wrong], settings.topic_partitions)
    if job.source == "table":
        rows = partial(
            LabelledRows,
            context.client,
            settings,
            since=job.since,
            until=job.until,
            where=[Condition.parse(text) for text in job.where],
        )
        passes = [rows(part=(one, job.passes)) for one in range(job.passes)]
        judged = await _judged(context, job)
        first = rows(texts=[text for text, _ in judged]) if judged else None
        return TableFeed(passes, settings.topic_partitions, first, JudgedFirst(judged))
    line = await find_poller_start(context)
    assert job.until is not None
    until = job.until if line is None else min(job.until, line)
    on_the_way = PassingRows(any_text=texts_differ(settings))
    async for row_id, micros, text in context.in_flight.all():
        if micros < until and (job.since is None or micros >= job.since):
            on_the_way.add(row_id, micros, text)
    old = OldRows(context.client, settings, topics, since=job.since, until=until, door=context.door)
    return SourceFeed(old, settings.topic_partitions, on_the_way)


async def _judged(context: JobContext, job: Job) -> list[tuple[str, Key]]:
    """Where a cascade learns from ``job``: the rows that are to come first."""
    return await judged_texts(context.client, context.settings) if job.passes > 1 else []


def mask_of(context: JobContext, job: Job) -> MaskedRows | None:
    """What masks the chosen rows of ``job``; None where nothing is masked, or its source does it."""
    if context.door is None or job.source == "source":
        return None
    topics, partitions = context.topics, context.settings.topic_partitions
    places = {"topic": topics.rows, "live": topics.labeled}
    where = {name: f"topic {topic}" for name, topic in places.items()} | {"file": "the uploaded file"}
    return MaskedRows(context.door, job, topics, partitions, where=where.get(job.source, "logs_labeled"))


def spans_of(context: JobContext, job: Job, tracer: Tracer | None) -> PublishSpans | None:
    """The spans of a job's rows; None where no traces are exported."""
    if tracer is None:
        return None
    step = "replay" if job.version is not None else {"file": "upload"}.get(job.source, "backfill")
    return PublishSpans(tracer, step, job.source, context.topics.dead_letter, again=True)


class JobRun:
    """One job, from its rows to its stored labels. ``report`` as in `run_job`."""

    def __init__(self, context: JobContext, job: str, report: Report) -> None:
        self._context = context
        self._id = job
        self._report = report
        self._published: Job | None = None

    async def publish(self) -> Job:
        """Publish the rest of the job, as soon as nobody else publishes; returns its state then.

        Raises:
            ConfigurationError: its source is gone, or a person must change something.
            RefusedError: its source cannot be read.
        """
        canary = self._context.jobs.canary()
        if canary is not None and canary.version == self._context.jobs.named(self._id).version:
            # Neither would see which rows the other one is about to publish.
            raise ConfigurationError(
                f"a canary of {canary.version} labels live rows now",
                fix="end it first, with `labelstream versions canary stop`",
            )
        await ReplayPublisher(self._context, self._publish_as_owner).run()
        assert self._published is not None
        return self._published

    async def _publish_as_owner(self, owner: Leadership) -> None:
        from_source = self._context.jobs.named(self._id).source == "source"
        if from_source and await find_poller_start(self._context) is None:
            await PollerSubstitute(self._context, owner, self._publish_rows).run()
        else:
            await self._publish_rows(owner)

    async def _publish_rows(self, owner: Leadership) -> None:
        open_source = partial(open_row_source, self._context)
        erased = ErasedRows(self._context.client, self._context.settings).now
        job = self._context.jobs.named(self._id)
        mask = mask_of(self._context, job)
        async with traced(self._context.settings, "jobs") as tracer:
            publishing = Publishing(
                self._context,
                self._id,
                open_source,
                owner,
                self._report,
                erased,
                mask,
                spans_of(self._context, job, tracer),
            )
            self._published = await publishing.run()

    async def finish(self, job: Job) -> Job:
        """Wait until the labels of ``job``, which is published, are stored, or somebody wishes otherwise."""
        context = self._context
        if not await self._wait_for(job, partial(self._count_unlabeled, job)):
            return job
        if not await until_available("Kafka", partial(self._is_same_topic, job)):
            # The messages that the workers had not read are gone.
            return await self._save(job.model_copy(update={"complete": False}))
        shadow = job.version is not None and job.to == "shadow"
        ends = await read_ends(context, context.topics.shadow if shadow else context.topics.labeled)
        if not await self._wait_for(job, partial(count_unstored, context, ends)):
            return job
        lost = await until_available("Kafka", partial(self._find_lost, job))
        if lost:
            # What is labelled is left out, so these are the rows that were lost.
            log.warning("job_publishes_lost_rows", job=job.id, losses=len(lost))
            again = {"complete": False, "position": None, "replay_topic_id": "", "lost": job.lost | lost}
            return await self._save(job.model_copy(update=again | dict.fromkeys(_COUNTS, 0)))
        job = await self._save(job.model_copy(update={"done": True}))
        self._report(job, 0)
        return job

    async def _wait_for(self, job: Job, count_left: Callable[[], Awaitable[int]]) -> bool:
        """Wait until nothing is left. False if somebody wishes the job to stop."""
        while (left := await until_available("Kafka", count_left)) > 0:
            if self._context.jobs.wish(self._id) is not Wish.RUN:
                return False
            self._report(job, left)
            await asyncio.sleep(_LOOK_SECONDS)
        return True

    async def _count_unlabeled(self, job: Job) -> int:
        if not await self._is_same_topic(job):
            return 0
        return await count_unlabeled(self._context, job.replay_ends)

    async def _find_lost(self, job: Job) -> dict[str, int]:
        """What its topics have lost while it ran, of this job or another, and it has not published again."""
        if job.limit is not None:
            return {}  # other rows would be published for those that are labelled
        topics = self._context.topics
        _, losses = await read_cursor_topic(topics, self._context.tail)
        made = {topics.replay, topics.shadow if job.to == "shadow" else topics.labeled}
        return {
            loss.id: loss.end
            for loss in losses.all
            if loss.topic in made and loss.found_at > job.begun_at and loss.end > job.lost.get(loss.id, 0)
        }

    async def _is_same_topic(self, job: Job) -> bool:
        """Whether the replay topic is still the one where the rows were published."""
        topic_id = await self._context.admin.topic_id(self._context.topics.replay)
        return str(topic_id) == job.replay_topic_id

    async def _save(self, job: Job) -> Job:
        await note(self._context, job.message(self._context.topics))
        return job
