"""One consumer for many readers, on the real broker: nothing is lost or doubled across breaks."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from connectors.kafka.broadcast import Broadcast
from connectors.kafka.connection import connection
from streams.core.errors import RefusedError, UnavailableError
from streams.core.settings import Settings
from streams.ports.label_feed import LiveLabel, Start
from tests.kafka_tools import make_topic
from tests.stack import SharedStack, fresh_name
from tests.waiting import PATIENCE

PARTITIONS = 3
Place = tuple[int, int]


@pytest.fixture(scope="module")
def arguments(shared: SharedStack) -> dict[str, Any]:
    return connection(Settings(kafka_bootstrap_servers=shared.kafka().address))


class Topic:
    """A topic, and who writes to it."""

    def __init__(self, arguments: dict[str, Any], name: str) -> None:
        self.arguments, self.name = arguments, name
        self._written = 0

    async def make(self) -> None:
        await make_topic(self.arguments, self.name, PARTITIONS)

    async def remove(self) -> None:
        admin = AIOKafkaAdminClient(**self.arguments)
        await admin.start()
        await admin.delete_topics([self.name])
        while self.name in await admin.list_topics():
            await asyncio.sleep(0.1)
        await admin.close()
        self._written = 0

    async def write(self, count: int) -> None:
        """So many messages, in turn over the partitions."""
        producer = AIOKafkaProducer(**self.arguments)
        await producer.start()
        for number in range(self._written, self._written + count):
            value = b'{"label":"a","confidence":0.5,"n":%d}' % number
            await producer.send(self.name, value, partition=number % PARTITIONS)
        await producer.flush()
        await producer.stop()
        self._written += count

    def places(self, first: int = 0) -> list[Place]:
        """Partition and offset of each message, from the one of that number on."""
        return [(number % PARTITIONS, number // PARTITIONS) for number in range(first, self._written)]


@pytest.fixture
async def topic(arguments: dict[str, Any]) -> Topic:
    made = Topic(arguments, fresh_name("live"))
    await made.make()
    return made


@contextlib.asynccontextmanager
async def broadcast(topic: Topic, **ring: int) -> AsyncIterator[Broadcast]:
    made = Broadcast(topic.arguments, topic.name, **ring)
    try:
        yield made
    finally:
        await made.close()


async def read(
    source: Broadcast, start: Start, count: int, begun: asyncio.Event | None = None
) -> tuple[list[LiveLabel], tuple[int, ...]]:
    """So many messages, and the positions after the last of them, as a client keeps them."""
    found: list[LiveLabel] = []
    begun = begun or asyncio.Event()
    try:
        async with asyncio.timeout(PATIENCE), contextlib.aclosing(source.follow(start, 0.2)) as slices:
            async for one in slices:
                at = list(one.before)
                begun.set()
                for label in one.labels:
                    found.append(label)
                    at[label.partition] = label.offset + 1
                    if len(found) == count:
                        return found, tuple(at)
                if len(found) >= count:
                    break
    finally:
        begun.set()  # whoever waits for it is told of an error
    return found, tuple(at)


def places(labels: list[LiveLabel]) -> list[Place]:
    return [(one.partition, one.offset) for one in labels]


def in_order(found: list[Place]) -> bool:
    return all(
        offsets == sorted(offsets)
        for number in range(PARTITIONS)
        if (offsets := [offset for partition, offset in found if partition == number])
    )


async def test_all_readers_see_what_comes_through_one_consumer(topic: Topic) -> None:
    await topic.write(30)
    async with broadcast(topic) as source:
        begun = [asyncio.Event() for _ in range(20)]
        reading = [asyncio.create_task(read(source, "now", 60, event)) for event in begun]
        await asyncio.wait_for(asyncio.gather(*(event.wait() for event in begun)), PATIENCE)
        await topic.write(60)
        for task in reading:
            labels, at = await task
            assert sorted(places(labels)) == sorted(topic.places(30))
            assert in_order(places(labels))
            assert at == (30, 30, 30)
            assert labels[0].data.startswith(b'{"label":"a"')
        assert source.readers == 0


@pytest.mark.parametrize("ring", [5, 40, 10_000])
async def test_whoever_comes_back_with_his_positions_goes_on_there(topic: Topic, ring: int) -> None:
    """Within the ring, and behind it; one that the ring overtakes gets fewer, and comes back for the rest."""
    await topic.write(50)
    async with broadcast(topic, ring_messages=ring) as source:
        found: list[Place] = []
        at: Start = "beginning"
        for count in (1, 7, 20):
            labels, at = await read(source, at, count)
            found += places(labels)
        writing = asyncio.create_task(topic.write(100))
        counts = itertools.cycle((30, 1, 50, 41))
        async with asyncio.timeout(PATIENCE):
            while len(found) < 150:
                labels, at = await read(source, at, min(next(counts), 150 - len(found)))
                found += places(labels)
        await writing
    assert len(found) == 150
    assert sorted(found) == sorted(topic.places())
    assert in_order(found)


async def test_a_reader_that_the_ring_overtakes_is_let_go_and_loses_nothing(topic: Topic) -> None:
    async with broadcast(topic, ring_messages=10) as source, asyncio.timeout(PATIENCE):
        slices = source.follow("now", 0.2)
        first = await anext(slices)
        assert (first.before, list(first.labels)) == ((0, 0, 0), [])
        assert not (await anext(slices)).labels  # it has begun to wait
        await topic.write(100)
        at: tuple[int, ...] = ()
        while at != (34, 33, 33):  # until all of it went through the ring
            async with contextlib.aclosing(source.follow("now", 0.2)) as others:
                at = (await anext(others)).before
            await asyncio.sleep(0.05)
        missed = [one async for one in slices]
        assert sum(len(one.labels) for one in missed) < 100
        labels, _ = await read(source, (0, 0, 0), 100)
        assert sorted(places(labels)) == sorted(topic.places())


async def test_a_topic_that_was_made_anew_is_read_from_its_beginning(topic: Topic) -> None:
    await topic.write(30)
    async with broadcast(topic) as source:
        _, at = await read(source, "beginning", 30)
    await topic.remove()
    await topic.make()
    await topic.write(9)
    async with broadcast(topic) as source:
        labels, _ = await read(source, at, 9)
    assert sorted(places(labels)) == sorted(topic.places())


async def test_positions_of_another_topic_are_refused(topic: Topic) -> None:
    async with broadcast(topic) as source:
        with pytest.raises(RefusedError) as caught:
            await anext(source.follow((1, 2), 1.0))
    assert caught.value.reason == "unknown-position"


async def test_without_kafka_or_the_topic_a_reader_is_told_at_once_and_the_next_one_may_succeed(
    arguments: dict[str, Any],
) -> None:
    missing = Topic(arguments, fresh_name("later"))
    async with broadcast(missing) as source, asyncio.timeout(PATIENCE):
        with pytest.raises(UnavailableError):
            await anext(source.follow("now", 1.0))
        await missing.make()
        while True:
            with contextlib.suppress(UnavailableError):
                first = await anext(source.follow("now", 1.0))
                break
            await asyncio.sleep(0.1)
        assert first.before == (0, 0, 0)
    nowhere = Broadcast({"bootstrap_servers": "127.0.0.1:1"}, "x")
    with pytest.raises(UnavailableError):
        await anext(nowhere.follow("now", 1.0))
    await nowhere.close()


async def test_a_service_that_ends_ends_its_readers(topic: Topic) -> None:
    async with broadcast(topic) as source, asyncio.timeout(PATIENCE):
        begun = asyncio.Event()
        reading = asyncio.create_task(read(source, "now", 5, begun))
        await begun.wait()
        source.stop()
        assert await reading == ([], (0, 0, 0))
