"""Where readers are and what retention leaves them, on a real broker that deletes what is old."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.kafka.connection import connection
from connectors.kafka.headroom import ReaderHeadroom
from connectors.kafka.producer import LeasedProducer
from connectors.kafka.reader_positions import ReaderPosition, ReaderPositions, Retention
from streams.core.records import Outgoing, Partition
from streams.core.settings import Settings
from tests.kafka_tools import make_topic, truncate
from tests.short_retention import fast_deletion
from tests.stack import local_stack

FIRST, SECOND = Partition("kept", 0), Partition("kept", 1)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with fast_deletion(), local_stack(tmp_path_factory, clickhouse=False) as running:
        yield connection(Settings(kafka_bootstrap_servers=running.kafka.address))


async def commit(arguments: dict[str, Any], group: str, positions: dict[Partition, int]) -> None:
    consumer = AIOKafkaConsumer(**arguments, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(*where) for where in positions])
        await consumer.commit({TopicPartition(*where): at for where, at in positions.items()})
    finally:
        await consumer.stop()


async def test_readers_are_seen_with_what_the_topic_holds(arguments: dict[str, Any]) -> None:
    await make_topic(arguments, "kept", 2, {"retention.ms": "86400000", "retention.bytes": "5000000"})
    producer = LeasedProducer(arguments)
    positions = ReaderPositions(arguments, {"kept": ["one", "other"]})
    try:
        await producer.send_many([Outgoing("kept", 0, b"k", b"x" * 100) for _ in range(10)])
        await commit(arguments, "any", {FIRST: 1})  # before the first commit Kafka knows no groups at all
        assert await positions.look(0.5) == {
            (group, where): ReaderPosition(0, end, -1, aged)
            for group in ("one", "other")
            for where, end, aged in ((FIRST, 10, 0), (SECOND, 0, 2**63 - 1))
        }
        await commit(arguments, "one", {FIRST: 4})
        await truncate(arguments["bootstrap_servers"], "kept", {0: 6})
        found = await positions.look(0.5)
        assert found["one", FIRST] == ReaderPosition(6, 10, 4, 6)
        assert (found["one", FIRST].next, found["one", FIRST].unread) == (6, 4)
        assert found["other", FIRST].unread == 4
        assert await positions.retention() == {"kept": Retention(86_400.0, 5_000_000)}
        await asyncio.sleep(0.05)
        late = await positions.look(1e-9)
        assert late["one", FIRST].late
        assert not late["one", SECOND].late  # it holds nothing
    finally:
        await positions.close()
        await producer.stop()


async def test_a_writer_that_keeps_to_its_headroom_loses_nothing_to_retention(
    arguments: dict[str, Any],
) -> None:
    """The topic keeps four seconds, the reader needs twice that for all of it."""
    await make_topic(arguments, "short", 2, {"retention.ms": "4000", "segment.ms": "500"})
    producer = LeasedProducer(arguments)
    positions = ReaderPositions(arguments, {"short": ["slow"]})
    headroom = ReaderHeadroom(positions, size_of=producer.size_of)
    count, rate = 2000, 250
    read: list[int] = []

    async def reader() -> None:
        consumer = AIOKafkaConsumer(
            **arguments, group_id="slow", enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            places = [TopicPartition("short", number) for number in range(2)]
            consumer.assign(places)
            while len(read) < count:
                for messages in (await consumer.getmany(timeout_ms=100, max_records=rate // 10)).values():
                    read.extend(int(message.value) for message in messages)
                    await consumer.commit()
                    await asyncio.sleep(len(messages) / rate)
        finally:
            await consumer.stop()

    reading = asyncio.create_task(reader())
    try:
        written, first = 0, 0
        while written < count:
            await headroom.refresh()
            some = range(written, min(count, written + headroom.left()))
            if some:
                await producer.send_many([Outgoing("short", i % 2, None, b"%d" % i) for i in some])
                headroom.wrote(len(some))
                written += len(some)
            await asyncio.sleep(0.1)
        while len(read) < count and not reading.done():
            await asyncio.sleep(0.1)
        await reading
        for where in (Partition("short", 0), Partition("short", 1)):
            first += (await positions.look(0.5))["slow", where].first
    finally:
        reading.cancel()
        await positions.close()
        await producer.stop()
    assert sorted(read) == list(range(count))
    assert first > 0  # retention was at work
    assert producer.size_of("short") is not None
