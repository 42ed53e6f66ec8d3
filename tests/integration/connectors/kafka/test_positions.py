"""How many requests an assignment of many partitions costs, on a real broker."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient

from connectors.kafka.connection import connection
from connectors.kafka.consumer import GroupConsumer, Session
from connectors.kafka.lease import GroupLease
from connectors.kafka.producer import LeasedProducer
from connectors.kafka.tail import TailReader
from streams.core.records import Outgoing, Partition, Record
from streams.core.settings import Settings
from streams.core.topics import ConsumerGroup
from streams.pipeline.fair_fetch import Turns
from streams.pipeline.faust_app import add_agent, make_app
from tests.kafka_tools import make_topic
from tests.stack import SharedStack, fresh_name
from tests.waiting import eventually

MANY = 300


@pytest.fixture(scope="module")
def arguments(shared: SharedStack) -> dict[str, Any]:
    return connection(Settings(kafka_bootstrap_servers=shared.kafka().address))


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Those of all clients, by kind."""
    found: Counter[str] = Counter()
    send = AIOKafkaClient.send

    async def counted(client: AIOKafkaClient, node_id: Any, request: Any, **more: Any) -> Any:
        found[type(request).__name__] += 1
        return await send(client, node_id, request, **more)

    monkeypatch.setattr(AIOKafkaClient, "send", counted)
    return found


@pytest.fixture
async def topic(arguments: dict[str, Any]) -> str:
    """A topic with a message in each partition."""
    name = fresh_name("many")
    await make_topic(arguments, name, MANY)
    producer = LeasedProducer(arguments)
    await producer.send_many([Outgoing(name, number, b"k", b"v") for number in range(MANY)])
    await producer.stop()
    return name


async def test_a_member_asks_for_its_positions_at_once(
    arguments: dict[str, Any], topic: str, requests: Counter[str]
) -> None:
    group = GroupConsumer(arguments, ConsumerGroup(fresh_name("many"), {"read": (topic,)}))
    found: list[Record] = []

    async def read(session: Session) -> None:
        while len(found) < MANY:
            found.extend(await session.fetch(seconds=1.0, most=MANY))
        await session.ending.wait()

    requests.clear()
    running = asyncio.create_task(group.run(read))
    await eventually(lambda: len(found) == MANY or running.done(), measure=lambda: len(found))
    running.cancel()
    await asyncio.wait([running])
    assert len(found) == MANY
    # One of ours, which has the metadata, and one of aiokafka's. It alone sends one for each partition.
    assert requests["OffsetFetchRequest"] <= 3, requests
    assert requests["OffsetRequest"] <= 3, requests


async def test_the_agents_ask_for_their_positions_at_once(
    arguments: dict[str, Any], topic: str, requests: Counter[str], tmp_path: Path
) -> None:
    found: set[int] = set()
    requests.clear()

    class Worker:
        connection = arguments
        lease = GroupLease()
        turns: Turns[Any] = Turns(lambda place: False)

        def fail(self, error: Exception) -> None:
            raise error

        def owed(self) -> dict[Partition, int]:
            return {Partition(topic, number): 0 for number in range(MANY)}

        def crowded(self) -> set[Partition]:
            return set()

        def to_seek(self) -> dict[Partition, int]:
            return {}

    app = make_app(Worker(), fresh_name("many"), arguments, tmp_path)
    add_agent(app, "read", [topic], lambda records, _: found.update(one.partition for one in records))
    starting = asyncio.create_task(app.start())
    try:
        await eventually(lambda: len(found) == MANY, measure=lambda: len(found))
        assert requests["OffsetFetchRequest"] <= 3, requests
        assert requests["OffsetRequest"] <= 3, requests
    finally:
        await asyncio.wait([starting])
        await app.stop()


async def test_bounds_are_asked_for_at_once(
    arguments: dict[str, Any], topic: str, requests: Counter[str]
) -> None:
    places = [Partition(topic, number) for number in range(MANY)]
    tail = TailReader(arguments)
    bounds = await tail.written_many(places)
    assert bounds == await tail.bounds_many(places) == dict.fromkeys(places, (0, 1))
    read = [
        record async for records in tail.read_many(dict.fromkeys(places, 0), bounds) for record in records
    ]
    assert len(read) == MANY
    assert requests["ListOffsets"] + requests["OffsetRequest"] + requests["OffsetForLeaderEpoch"] <= 8, (
        requests
    )
