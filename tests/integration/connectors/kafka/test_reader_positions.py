"""Where readers are and what a topic holds for them, on the real broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.kafka.connection import connection
from connectors.kafka.producer import LeasedProducer
from connectors.kafka.reader_positions import ReaderPosition, ReaderPositions, Retention
from streams.core.records import Outgoing, Partition
from streams.core.settings import Settings
from tests.kafka_tools import make_topic, truncate
from tests.stack import SharedStack, fresh_name


@pytest.fixture
def arguments(shared: SharedStack) -> dict[str, Any]:
    return connection(Settings(kafka_bootstrap_servers=shared.kafka().address))


async def commit(arguments: dict[str, Any], group: str, positions: dict[Partition, int]) -> None:
    consumer = AIOKafkaConsumer(**arguments, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(*where) for where in positions])
        await consumer.commit({TopicPartition(*where): at for where, at in positions.items()})
    finally:
        await consumer.stop()


async def test_readers_are_seen_with_what_the_topic_holds(arguments: dict[str, Any]) -> None:
    kept, one, other = (fresh_name(name) for name in ("kept", "one", "other"))
    first, second = Partition(kept, 0), Partition(kept, 1)
    await make_topic(arguments, kept, 2, {"retention.ms": "86400000", "retention.bytes": "5000000"})
    producer = LeasedProducer(arguments)
    positions = ReaderPositions(arguments, {kept: [one, other]})
    try:
        await producer.send_many([Outgoing(kept, 0, b"k", b"x" * 100) for _ in range(10)])
        # Before the first commit Kafka knows no groups at all.
        await commit(arguments, fresh_name("any"), {first: 1})
        assert await positions.look(0.5) == {
            (group, where): ReaderPosition(0, end, -1, aged)
            for group in (one, other)
            for where, end, aged in ((first, 10, 0), (second, 0, 2**63 - 1))
        }
        await commit(arguments, one, {first: 4})
        await truncate(arguments["bootstrap_servers"], kept, {0: 6})
        found = await positions.look(0.5)
        assert found[one, first] == ReaderPosition(6, 10, 4, 6)
        assert (found[one, first].next, found[one, first].unread) == (6, 4)
        assert found[other, first].unread == 4
        assert await positions.retention() == {kept: Retention(86_400.0, 5_000_000)}
        await asyncio.sleep(0.05)
        late = await positions.look(1e-9)
        assert late[one, first].late
        assert not late[one, second].late  # it holds nothing
    finally:
        await positions.close()
        await producer.stop()
