"""From a job to its labels: publish, wait for the workers and for the sink."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from connectors.clickhouse.poller.backfill import OldRows, poller_begins
from connectors.clickhouse.poller.cursor import Cursor
from connectors.clickhouse.queries.relabel_rows import Condition, LabelledRows
from streams.core.availability import until_available
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from streams.jobs.context import JobContext, agents_left, ends_of, note, sink_left, tools_for
from streams.jobs.file_source import file_feed
from streams.jobs.job import Job, Wish
from streams.jobs.leader_election import instead_of_poller, own_publishing
from streams.jobs.publishing import Publishing
from streams.jobs.sources import RowSource, SourceFeed, TableFeed, TopicFeed
from streams.ports.kafka import Lease, Sender

Report = Callable[[Job, int], None]
_LOOK_SECONDS = 0.5


async def work(settings: Settings, job: str, report: Report, *, wait: bool = True) -> dict[str, Any]:
    """Publish what is left of ``job``; with ``wait`` until its labels are stored. Returns how it stands.

    ``report`` is called with the job and how many rows the workers have still before them.

    Raises:
        ConfigurationError: no such job, or what it reads is gone.
    """
    async with tools_for(settings) as tools:
        found = tools.jobs.named(job)
        if tools.jobs.wish(job) is Wish.DROP:
            raise ConfigurationError(f"replay {job} was dropped", fix="begin a new one")
        while not found.done and tools.jobs.wish(job) is Wish.RUN:
            if not found.complete:
                found = await publish(tools, job, report)
            if not found.complete or not wait:
                break
            found = await finish(tools, found, report)
        return tools.jobs.as_dict(found)


async def poller_line(tools: JobContext) -> int | None:
    """Rows from this time on are the poller's, in microseconds since 1970; None: there never was a poller.

    Raises:
        UnavailableError, AccessError.
    """
    key = f"{tools.settings.clickhouse_database}.{tools.settings.clickhouse_table}".encode()
    cursor: Cursor | None = None
    async for records in tools.tail.read(tools.topics.cursor, 0, 0):
        for record in records:
            if record.key == key:
                cursor = Cursor.decode(record.value) or cursor
    return poller_begins(cursor, tools.settings) if cursor is not None else None


async def feed_of(tools: JobContext, job: Job, *, sent: Sequence[str] = ()) -> RowSource:
    """Where the rows of ``job`` come from. ``sent``: ids of its own that are published and not noted.

    Raises:
        ConfigurationError: the rows topic is no longer the one that the job began with.
    """
    settings, topics = tools.settings, tools.topics
    if job.source == "topic":
        if str(await tools.admin.topic_id(topics.rows)) != job.source_topic_id:
            raise ConfigurationError(
                f"topic {topics.rows} was deleted and made again since replay {job.id} began",
                fix="begin a new one with --from-table: it leaves out what is labelled already",
            )
        return TopicFeed(tools.tail, topics.rows, job)
    if job.source == "file":
        return await file_feed(tools, job, sent)
    if job.source == "table":
        where = [Condition.parse(text) for text in job.where]
        rows = LabelledRows(tools.client, settings, since=job.since, until=job.until, where=where)
        return TableFeed(rows, settings.topic_partitions)
    line = await poller_line(tools)
    on_the_way = await tools.way.all()
    assert job.until is not None
    until = job.until if line is None else min(job.until, line)
    old = OldRows(tools.client, settings, topics, since=job.since, until=until)
    return SourceFeed(old, settings.topic_partitions, on_the_way)


async def publish(tools: JobContext, job: str, report: Report) -> Job:
    """Publish what is left of a job, as soon as nobody else publishes; returns how it stands then.

    Raises:
        ConfigurationError: what it reads is gone, or a person must change something.
        RefusedError: what it reads cannot be read.
    """
    published: list[Job] = []

    async def do(generation: int, lease: Lease, sender: Sender) -> None:
        async def feed(found: Job) -> RowSource:
            return await feed_of(tools, found, sent=[row_id for row_id, _ in publishing.sent])

        publishing = Publishing(
            tools, job, feed, sender=sender, lease=lease, generation=generation, report=report
        )
        published[:] = [await publishing.run()]

    from_source = tools.jobs.named(job).source == "source"

    async def do_as(generation: int, lease: Lease, sender: Sender) -> None:
        if from_source and await poller_line(tools) is None:
            await instead_of_poller(tools, generation, lease, do)
        else:
            await do(generation, lease, sender)

    await own_publishing(tools, do_as)
    return published[0]


async def finish(tools: JobContext, job: Job, report: Report) -> Job:
    """Wait until the labels are stored, or somebody wishes otherwise."""
    output = tools.topics.shadow if job.version is not None and job.to == "shadow" else tools.topics.labeled

    async def until(left: Callable[[], Awaitable[int]]) -> bool:
        while (now := await until_available("Kafka", left)) > 0:
            if tools.jobs.wish(job.id) is not Wish.RUN:
                return False
            report(job, now)
            await asyncio.sleep(_LOOK_SECONDS)
        return True

    async def same_topic() -> bool:
        return str(await tools.admin.topic_id(tools.topics.replay)) == job.replay_topic_id

    async def agents() -> int:
        return await agents_left(tools, job.replay_ends) if await same_topic() else 0

    if not await until(agents):
        return job
    if not await until_available("Kafka", same_topic):
        job = job.model_copy(update={"complete": False})  # what the workers had not read is gone
        await note(tools, job.message(tools.topics))
        return job
    ends = await ends_of(tools, output)
    if not await until(lambda: sink_left(tools, ends)):
        return job
    job = job.model_copy(update={"done": True})
    await note(tools, job.message(tools.topics))
    report(job, 0)
    return job
