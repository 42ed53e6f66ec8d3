"""Takeovers on three real brokers: all that a former owner wrote is known, replicated or not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.offset import OffsetRequest

from connectors.kafka.admin import Admin
from connectors.kafka.producer import LeasedProducer
from connectors.kafka.protocol.log_ends import LATEST
from connectors.kafka.tail import TailReader
from streams.core.messages import Labeled, Row
from streams.core.records import Commit, Outgoing, Partition
from streams.delivery.delivery import Delivery
from streams.delivery.routes import Flow, Limits, Route
from tests.cluster import Cluster
from tests.unit.connectors.clickhouse.sink.fakes import FakeLease
from tests.unit.streams.delivery.fakes import label, record

_FEW, _ALL = 10, 60
_DEBUGGING_REPLICA = -2


@asynccontextmanager
async def worker(arguments: dict[str, Any], name: str, generation: int) -> AsyncIterator[Delivery]:
    """A delivery of rows to labels on the topics of ``name``, with a producer of its own."""
    lease = FakeLease(generation)
    producer = LeasedProducer(arguments, lease)
    route = Route(Row, Labeled, label, f"{name}.labeled", "v1")
    try:
        yield Delivery(
            Flow((f"{name}.rows",), (f"{name}.labeled",), f"{name}.dead", lambda record: route),
            sender=producer,
            tail=TailReader(arguments),
            topic_ids=Admin(arguments),
            lease=lease,
            limits=Limits({"label": _ALL}),
        )
    finally:
        producer.fence()
        await producer.stop()


async def log_end(cluster: Cluster, broker: int, partition: Partition) -> int:
    """Where the partition's log ends on one broker, leader or not."""
    client = AIOKafkaClient(bootstrap_servers=cluster.address)
    await client.bootstrap()
    try:
        asked = [(partition.topic, [(partition.partition, LATEST)])]
        answer = await client.send(broker, OffsetRequest(_DEBUGGING_REPLICA, 0, asked))
        _, code, _, offset = answer.topics[0][1][0]
        assert code == 0
        return int(offset)
    finally:
        await client.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("leader_dies", [False, True], ids=["slow-follower", "and-its-leader-dies"])
async def test_a_takeover_waits_for_what_a_slow_follower_lacks(
    leader_dies: bool, cluster: Cluster, new_name: Callable[[], str]
) -> None:
    """The former owner's last messages are at their leader and not at every follower: no consumer sees them.
    If the leader dies then, its successor has them, and tells no end at all until the followers have them."""
    name, arguments = new_name(), {"bootstrap_servers": cluster.address}
    rows, labels = Partition(f"{name}.rows", 0), Partition(f"{name}.labeled", 0)
    leader, follower, slow = 1, 2, 3
    for topic in ("rows", "labeled", "dead"):
        place = [leader, follower, slow] if topic == "labeled" else [follower, slow, leader]
        await asyncio.to_thread(cluster.create, f"{name}.{topic}", {0: place})
    records = [record(n, str(n), rows.topic) for n in range(_ALL)]
    producer = LeasedProducer(arguments)
    await producer.send_many([Outgoing(rows.topic, 0, b"", one.value) for one in records])
    await producer.stop()
    async with worker(arguments, name, 1) as first, worker(arguments, name, 2) as heir:
        await first.assigned({rows: Commit(-1)}, 1)
        first.offer_all(records[:_FEW], 1)
        await until(lambda: first.counts["done:label"] == _FEW)
        await asyncio.to_thread(cluster.cut_follower, slow)
        first.offer_all(records[_FEW:], 1)
        for broker in (leader, follower):
            while await log_end(cluster, broker, labels) < _ALL:
                await asyncio.sleep(0.05)
        tail = TailReader(arguments)
        ends = tail.written([labels])
        committed = first.commits()
        await first.revoked(owner=False, seconds=0.1)
        first.forget()
        if leader_dies:
            await asyncio.to_thread(cluster.kill, leader)
            await asyncio.to_thread(
                cluster.wait_for, lambda: cluster.leader(labels.topic, 0) == follower, "another leader"
            )
        else:
            assert (await tail.bounds_many([labels]))[labels] == (0, _FEW)
        await heir.assigned(committed, 2)
        heir.offer_all(records[_FEW:], 2)
        await asyncio.sleep(2.0)
        assert heir.taking_over() == {rows}
        await asyncio.to_thread(cluster.mend_follower, slow)
        assert [found async for found in ends] == [{labels: (0, _ALL)}]
        await until(lambda: not heir.taking_over())
        assert heir.owed() == {rows: _ALL}
        assert heir.commits()[rows].offset == _ALL
        assert not heir.waiting
    seen = Counter([one.key async for found in tail.read(*labels, 0) for one in found])
    assert seen == Counter(str(n).encode() for n in range(_ALL))
