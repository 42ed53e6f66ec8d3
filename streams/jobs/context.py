"""What a job needs to run, and how far the agents and the sink are behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.kafka.admin import Admin
from connectors.kafka.admin_client import AdminClient
from connectors.kafka.connection import connection
from connectors.kafka.follow import Follower
from connectors.kafka.headroom import ReaderHeadroom
from connectors.kafka.lag import LagReader
from connectors.kafka.producer import send_each
from connectors.kafka.reader_positions import ReaderPositions
from connectors.kafka.tail import TailReader
from streams.core.losses import Losses
from streams.core.records import Outgoing, Partition, Record, partitions_of
from streams.core.settings import Settings
from streams.core.topics import ConsumerGroup, Topics
from streams.jobs.in_flight_rows import InFlightRows
from streams.jobs.job import Jobs
from streams.ports.kafka import Headroom
from streams.privacy.door import Door, opened
from streams.runtime.secret import verify_secret


@contextlib.asynccontextmanager
async def open_context(settings: Settings, door: Door | None = None) -> AsyncIterator[JobContext]:
    """Open the connections, and follow the jobs as they change. ``door``: what masks the rows, if there is
    one already.

    Raises:
        UnavailableError, AccessError.
        ConfigurationError: `PRIVACY_SECRET` is not the one that rows were published with.
    """
    await verify_secret(settings)
    arguments, topics = connection(settings), Topics(settings.topic_prefix)
    client, brokers = ClickHouseClient.from_settings(settings), AdminClient(arguments, kept=True)
    jobs, losses = Jobs(), Losses()

    def learn(record: Record) -> None:
        jobs.learn(record)
        losses.learn(record)

    try:
        follower = Follower(arguments, topics.cursor, learn)
        await follower.start()
        following = asyncio.create_task(follower.run())
        readers = ReaderPositions(arguments, topics.groups.readers_of([topics.replay]), brokers)
        try:
            async with LagReader(arguments, brokers) as lags, contextlib.AsyncExitStack() as own:
                door = door or await own.enter_async_context(opened(settings))
                yield JobContext(
                    settings,
                    topics,
                    client,
                    TailReader(arguments, brokers),
                    Admin(arguments, brokers),
                    lags,
                    jobs,
                    ReaderHeadroom(readers),
                    losses,
                    door,
                )
        finally:
            following.cancel()
            await asyncio.wait([following])
            await readers.close()
    finally:
        await brokers.close()
        await client.close()


async def note(context: JobContext, *messages: Outgoing) -> None:
    """Write to the compacted topics.

    Raises:
        UnavailableError, AccessError.
    """
    await send_each(connection(context.settings), messages)


async def count_unlabeled(context: JobContext, ends: dict[int, int]) -> int:
    """The number of messages of the replay topic, up to ``ends``, that the workers have not processed."""
    found = await context.lags.positions(context.topics.groups.agents.name, [context.topics.replay])
    committed = {where.partition: max(commit.offset, 0) for where, commit in found.items()}
    return sum(max(0, end - committed.get(number, 0)) for number, end in ends.items())


async def count_unstored(context: JobContext, ends: dict[Partition, int]) -> int:
    """The number of messages, up to ``ends``, that the sink has not stored."""
    return await _left(context, context.topics.groups.sink, ends)


async def count_unaugmented(context: JobContext, ends: dict[Partition, int]) -> int:
    """The number of labelled messages, up to ``ends``, that the workers have not augmented."""
    return await _left(context, context.topics.groups.agents, ends)


async def _left(context: JobContext, group: ConsumerGroup, ends: dict[Partition, int]) -> int:
    found = await context.lags.positions(group.name, sorted({where.topic for where in ends}))
    return sum(max(0, end - max(found[where].offset, 0)) for where, end in ends.items() if where in found)


async def read_ends(context: JobContext, *topics: str) -> dict[Partition, int]:
    """The offset after the last message of each partition."""
    places = [place for topic in topics for place in partitions_of(topic, context.settings.topic_partitions)]
    return {where: end for where, (_, end) in (await context.tail.bounds_many(places)).items()}


@dataclass(frozen=True)
class JobContext:
    """What a job needs to run."""

    settings: Settings
    topics: Topics
    client: ClickHouseClient
    tail: TailReader
    admin: Admin
    lags: LagReader
    jobs: Jobs  # kept up to date, as the losses are
    headroom: Headroom  # of the replay topic
    losses: Losses = field(default_factory=Losses)
    door: Door | None = None  # what masks the rows

    @property
    def in_flight(self) -> InFlightRows:
        return InFlightRows(self.topics, self.tail, self.lags, self.admin)
