"""A partition that cannot be written, on three real brokers: it waits, and nothing else does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connectors.kafka.admin import Admin
from connectors.kafka.producer import LeasedProducer
from connectors.kafka.tail import TailReader
from streams.core.codec import encode
from streams.core.errors import UnavailableError
from streams.core.messages import Labeled, Row
from streams.core.records import Commit, Outgoing, Partition, Record
from streams.delivery.delivery import Delivery
from streams.delivery.routes import Flow, Limits, Route
from tests.cluster import Cluster
from tests.faults.cluster.test_takeovers import until
from tests.unit.connectors.clickhouse.sink.fakes import FakeLease
from tests.unit.streams.delivery.fakes import label, row
from tests.waiting import PATIENCE

_COUNT = 4
_LOST = 1  # this partition
_STEP = 300


async def topics(
    cluster: Cluster, name: str, places: dict[int, Sequence[int]], config: dict[str, str] | None = None
) -> None:
    """Rows and dead letters on brokers that stay; labels as ``places`` says."""
    safe = {number: [1, 2] for number in range(_COUNT)}
    for topic, where, settings in (("rows", safe, None), ("dead", safe, None), ("labeled", places, config)):
        await asyncio.to_thread(cluster.create, f"{name}.{topic}", where, settings or {})


async def fill(cluster: Cluster, topic: str, count: int) -> None:
    """So many rows in each partition, as `Feed` gives them: what a takeover finds where it is to go on."""
    producer = LeasedProducer({"bootstrap_servers": cluster.address})
    rows = [(number, encode(row(f"{number}-{at}"))) for number in range(_COUNT) for at in range(count)]
    await producer.send_many([Outgoing(topic, number, b"", value) for number, value in rows])
    await producer.stop()


@asynccontextmanager
async def worker(
    cluster: Cluster, name: str, generation: int = 1, committed: Mapping[Partition, Commit] | None = None
) -> AsyncIterator[tuple[Delivery, LeasedProducer]]:
    """The owner of all partitions. ``committed``: by the one before it."""
    arguments: dict[str, Any] = {"bootstrap_servers": cluster.address}
    lease = FakeLease(generation)
    producer = LeasedProducer(arguments, lease)
    route = Route(Row, Labeled, label, f"{name}.labeled", "v1")
    delivery = Delivery(
        Flow((f"{name}.rows",), (f"{name}.labeled",), f"{name}.dead", lambda record: route),
        sender=producer,
        tail=TailReader(arguments),
        topic_ids=Admin(arguments),
        lease=lease,
        limits=Limits({"label": 32}),
    )
    places = {Partition(f"{name}.rows", number): Commit(-1) for number in range(_COUNT)}
    await delivery.assigned(places if committed is None else committed, generation)
    try:
        yield delivery, producer
    finally:
        producer.fence()
        await producer.stop()


class Feed:
    """Hands a delivery what it owes, up to an end that grows."""

    def __init__(self, delivery: Delivery, name: str, generation: int = 1, end: int = 0) -> None:
        self.delivery = delivery
        self.topic = f"{name}.rows"
        self.end = end
        self._generation = generation

    @asynccontextmanager
    async def fed(self) -> AsyncIterator[None]:
        feeding = asyncio.create_task(self._run())
        try:
            yield
        finally:
            feeding.cancel()
            await asyncio.wait([feeding])

    async def _run(self) -> None:
        while True:
            for where, start in self.delivery.owed().items():
                if where not in self.delivery.crowded():
                    self.delivery.offer_all(
                        [self._record(where.partition, n) for n in range(start, min(start + 50, self.end))],
                        self._generation,
                    )
            await asyncio.sleep(0.01)

    def done(self, *partitions: int) -> bool:
        commits = self.delivery.commits()
        places = [Partition(self.topic, number) for number in partitions]
        return all(place in commits and commits[place].offset == self.end for place in places)

    def _record(self, partition: int, offset: int) -> Record:
        return Record(self.topic, partition, offset, 0, b"", encode(row(f"{partition}-{offset}")))


async def labels(cluster: Cluster, name: str) -> Counter[bytes | None]:
    tail = TailReader({"bootstrap_servers": cluster.address})
    places = {Partition(f"{name}.labeled", number): 0 for number in range(_COUNT)}
    return Counter([one.key async for found in tail.read_many(places) for one in found])


def each_once(end: int) -> Counter[bytes | None]:
    return Counter(f"{number}-{offset}".encode() for number in range(_COUNT) for offset in range(end))


OUTAGES: dict[str, tuple[dict[int, Sequence[int]], dict[str, str]]] = {
    "no-leader": ({0: [1], _LOST: [3], 2: [2], 3: [1]}, {"min.insync.replicas": "1"}),
    "few-replicas": ({0: [1, 2], _LOST: [2, 3], 2: [2, 1], 3: [1, 2]}, {"min.insync.replicas": "2"}),
}


@pytest.mark.parametrize("kind", OUTAGES)
async def test_a_partition_that_cannot_be_written_stops_only_itself(
    kind: str, cluster: Cluster, new_name: Callable[[], str]
) -> None:
    name, (places, config) = new_name(), OUTAGES[kind]
    await topics(cluster, name, places, config)
    lost, others = Partition(f"{name}.labeled", _LOST), [n for n in range(_COUNT) if n != _LOST]
    async with worker(cluster, name) as (delivery, producer):
        feed = Feed(delivery, name)
        async with feed.fed():
            feed.end = _STEP
            await until(lambda: feed.done(*range(_COUNT)))
            # aiokafka itself would give a batch without a leader up after 40 s; here after none.
            assert producer._current is not None
            producer._current._message_accumulator._batch_ttl = 0.0
            await asyncio.to_thread(cluster.kill, 3)
            feed.end += _STEP
            await until(lambda: feed.done(*others))
            await until(lambda: lost in producer.outages)
            for _ in range(3):
                feed.end += _STEP
                await until(lambda: feed.done(*others))
            assert set(producer.outages) == {lost}
            assert not delivery.unsure
            assert delivery.commits()[Partition(feed.topic, _LOST)].offset < feed.end
            await asyncio.to_thread(cluster.start, 3)
            await until(lambda: feed.done(*range(_COUNT)))
            await until(lambda: not producer.outages)
    assert await labels(cluster, name) == each_once(feed.end)


async def test_a_takeover_meanwhile_waits_for_that_partition_alone(
    cluster: Cluster, new_name: Callable[[], str]
) -> None:
    name = new_name()
    await topics(cluster, name, *OUTAGES["no-leader"])
    await fill(cluster, f"{name}.rows", 3 * _STEP)
    others = [n for n in range(_COUNT) if n != _LOST]
    async with worker(cluster, name) as (delivery, producer):
        feed = Feed(delivery, name)
        async with feed.fed():
            feed.end = _STEP
            await until(lambda: feed.done(*range(_COUNT)))
            await asyncio.to_thread(cluster.kill, 3)
            feed.end += _STEP
            await until(lambda: feed.done(*others) and bool(producer.outages))
        assert not await delivery.revoked(owner=True, seconds=4.0)
        producer.fence()
        committed = delivery.commits()
    async with worker(cluster, name, 2, committed) as (delivery, producer):
        feed = Feed(delivery, name, 2, 3 * _STEP)
        async with feed.fed():
            await until(lambda: feed.done(*others))
            assert delivery.taking_over() == {Partition(feed.topic, _LOST)}
            await asyncio.to_thread(cluster.start, 3)
            await until(lambda: feed.done(*range(_COUNT)))
    assert await labels(cluster, name) == each_once(feed.end)


async def test_a_producer_ends_though_a_partition_has_no_leader(
    cluster: Cluster, new_name: Callable[[], str]
) -> None:
    """And one without a lease, for whose answer a person waits, says that it cannot be written."""
    name = new_name()
    await topics(cluster, name, *OUTAGES["no-leader"])
    producer = LeasedProducer({"bootstrap_servers": cluster.address})
    await producer.start()
    await asyncio.to_thread(cluster.kill, 3)
    waiting = asyncio.create_task(producer.send(Outgoing(f"{name}.labeled", _LOST, b"k", b"v")))
    await until(lambda: bool(producer.outages))
    assert await producer.send(Outgoing(f"{name}.labeled", 0, b"k", b"v")) == 0
    hasty = LeasedProducer({"bootstrap_servers": cluster.address}, patience=3.0)
    with pytest.raises(UnavailableError, match="nobody knows"):
        await hasty.send_many([Outgoing(f"{name}.labeled", number, b"k", b"v") for number in (0, _LOST)])
    await asyncio.wait_for(hasty.stop(), PATIENCE)
    await asyncio.wait_for(producer.stop(), PATIENCE)
    await asyncio.wait([waiting], timeout=PATIENCE)
    assert waiting.done()
    assert waiting.exception() is not None
    assert not producer.outages
