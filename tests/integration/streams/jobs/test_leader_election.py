"""The right to publish replays on the real broker: one at a time, also in the poller's place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection
from connectors.kafka.lag import LagReader
from connectors.kafka.tail import TailReader
from streams.core.errors import ConfigurationError, LeaseLostError, UnavailableError
from streams.core.records import Outgoing
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.jobs.context import JobContext
from streams.jobs.job import Jobs
from streams.jobs.leader_election import Leadership, PollerSubstitute, ReplayPublisher
from tests.stack import SharedStack, fresh_name
from tests.unit.connectors.clickhouse.poller.fakes import FakeHeadroom


@pytest.fixture(scope="module")
def servers(shared: SharedStack) -> str:
    address = shared.kafka().address
    assert address
    return address


@pytest.fixture
async def context(servers: str) -> AsyncIterator[JobContext]:
    settings = Settings(
        kafka_bootstrap_servers=servers,
        topic_prefix=fresh_name("election"),
        topic_partitions=1,
        clickhouse_host="127.0.0.1",
    )
    arguments, topics = connection(settings), Topics(settings.topic_prefix)
    admin, client = Admin(arguments), ClickHouseClient.from_settings(settings)
    await admin.create_topics(settings)
    async with LagReader(arguments) as lags:
        yield JobContext(settings, topics, client, TailReader(arguments), admin, lags, Jobs(), FakeHeadroom())
    await client.close()


async def write(context: JobContext, owner: Leadership, name: str) -> None:
    await owner.lease.hold(owner.generation)
    await owner.sender.send(Outgoing(context.topics.replay, 0, name.encode(), b"{}"))


async def read_keys(context: JobContext) -> list[bytes | None]:
    return [
        record.key async for records in context.tail.read(context.topics.replay, 0, 0) for record in records
    ]


async def test_two_publish_one_after_the_other(context: JobContext) -> None:
    at_work: list[str] = []

    def task(name: str) -> ReplayPublisher:
        async def publish(owner: Leadership) -> None:
            at_work.append(name)
            assert at_work == [name]
            await write(context, owner, name)
            await asyncio.sleep(0.1)
            at_work.remove(name)

        return ReplayPublisher(context, publish)

    await asyncio.gather(task("a").run(), task("b").run())
    assert sorted(await read_keys(context)) == [b"a", b"b"]  # type: ignore[type-var]


async def test_a_failure_ends_the_run(context: JobContext) -> None:
    async def fail(owner: Leadership) -> None:
        raise ConfigurationError("the topic was deleted")

    with pytest.raises(ConfigurationError, match="deleted"):
        await ReplayPublisher(context, fail).run()


async def test_in_the_poller_s_place_it_writes_and_ends_and_a_failure_ends_it_too(
    context: JobContext,
) -> None:
    async def publish(owner: Leadership) -> None:
        await write(context, owner, "instead")

    async def fail(owner: Leadership) -> None:
        raise ConfigurationError("the table is gone")

    async def as_poller(owner: Leadership) -> None:
        await PollerSubstitute(context, owner, publish).run()

    await ReplayPublisher(context, as_poller).run()
    assert await read_keys(context) == [b"instead"]

    async def fail_as_poller(owner: Leadership) -> None:
        await PollerSubstitute(context, owner, fail).run()

    with pytest.raises(ConfigurationError, match="gone"):
        await ReplayPublisher(context, fail_as_poller).run()


async def test_while_a_poller_is_there_it_waits(context: JobContext) -> None:
    told: list[Exception] = []

    async def publish(owner: Leadership) -> None:
        raise AssertionError("there is a poller")

    async def beside_a_poller(owner: Leadership) -> None:
        async def as_second(second: Leadership) -> None:
            try:
                await PollerSubstitute(context, owner, publish).run()
            except (UnavailableError, LeaseLostError) as error:
                told.append(error)

        # The first substitute is the poller that the second one meets.
        await PollerSubstitute(context, owner, as_second).run()

    await ReplayPublisher(context, beside_a_poller).run()
    assert [str(error) for error in told] == ["a poller begins, and says soon which rows are its own"]
