"""The sender's loop: when batches go out, and what a partition in trouble leaves behind."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import NotEnoughReplicasError
from aiokafka.producer import message_accumulator
from aiokafka.producer.sender import Sender as AioSender
from aiokafka.structs import TopicPartition

from connectors.kafka import gate
from connectors.kafka.sending import gathering, partition_sender
from connectors.kafka.sending.batch_sizes import BatchSizes
from connectors.kafka.sending.gathering import ALONE_SECONDS, GatheringAccumulator
from connectors.kafka.sending.partition_sender import PartitionSender
from streams.core.errors import LeaseLostError
from streams.core.records import Outage, Partition

HERE, THERE = TopicPartition("labeled", 0), TopicPartition("labeled", 1)
LINGER = ALONE_SECONDS
HANGS = 30.0  # seconds; what is not settled by then never will be


class Broker:
    """aiokafka's client of one broker. ``refused``: the error code of each partition that it refuses."""

    def __init__(self) -> None:
        self.refused: dict[TopicPartition, int] = {}
        self.leaders = {HERE: 1, THERE: 1}
        self.cluster = SimpleNamespace(leader_for_partition=self.leaders.get)
        self.offsets = itertools.count()

    async def send(self, node: int, request: Any, *, group: Any) -> Any:
        await asyncio.sleep(0)
        topics = [
            (
                topic,
                [
                    (number, self.refused.get(TopicPartition(topic, number), 0), next(self.offsets), -1)
                    for number, _ in parts
                ],
            )
            for topic, parts in request._topics
        ]
        return SimpleNamespace(topics=topics)

    def force_metadata_update(self) -> asyncio.Future[bool]:
        done = asyncio.get_running_loop().create_future()
        done.set_result(True)
        return done


class Sending:
    """A sender over a broker, and what it is asked to send."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broker = Broker()
        self.outages: dict[Partition, Outage] = {}
        self.accumulator = GatheringAccumulator(
            self.broker.cluster, 1000, 0, 40.0, loop=asyncio.get_running_loop()
        )
        self.accumulator.sizes = BatchSizes()
        own = AioSender(
            self.broker,
            acks=-1,
            txn_manager=None,
            message_accumulator=self.accumulator,
            retry_backoff_ms=100,
            request_timeout_ms=10_000,
        )
        monkeypatch.setattr(
            gate.GatedClient, "send", lambda gated, *args, **named: self.broker.send(*args, **named)
        )
        self.sender = PartitionSender.take_over(own, None, self.outages)

    async def send(self, place: TopicPartition) -> asyncio.Future[Any]:
        return await self.accumulator.add_message(place, b"k", b"v", 10.0)

    async def settled(self, *sent: asyncio.Future[Any]) -> bool:
        return not (await asyncio.wait(sent, timeout=HANGS))[1]


@asynccontextmanager
async def sending(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sending]:
    made = Sending(monkeypatch)
    await made.sender.start()
    try:
        yield made
    finally:
        made.sender.fence()
        await made.sender.close()


def read_slowly(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sender's clock go on by ``step`` seconds whenever it is read: the machine is busy between any
    two looks. The event loop's own clock is the real one."""
    readings, began = itertools.count(), time.monotonic()
    clock = SimpleNamespace(monotonic=lambda: began + next(readings) * step, time=time.time)
    for module in (message_accumulator, gathering, partition_sender):
        monkeypatch.setattr(module, "time", clock)


@pytest.mark.parametrize("part", [0.15, 0.2, 0.3, 0.4, 0.6, 0.9])
async def test_a_batch_goes_out_whenever_its_linger_ends(
    part: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between two looks of the loop, and without anything else that wakes it."""
    async with sending(monkeypatch) as made:
        await asyncio.sleep(0)  # the loop waits for the first message
        read_slowly(LINGER * part, monkeypatch)
        for _ in range(5):
            assert await made.settled(await made.send(HERE), await made.send(THERE))


async def test_a_partition_that_is_refused_waits_alone_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sending(monkeypatch) as made:
        made.broker.refused[HERE] = NotEnoughReplicasError.errno
        held = await made.send(HERE)
        while Partition(*HERE) not in made.outages:
            await asyncio.sleep(0.001)
        for _ in range(5):
            assert await made.settled(await made.send(THERE))
        assert set(made.outages) == {Partition(*HERE)}
        assert not held.done()
        made.broker.refused.clear()
        assert await made.settled(held)
        assert not made.outages


async def test_a_partition_without_a_leader_waits_alone_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sending(monkeypatch) as made:
        made.broker.leaders[HERE] = -1
        held = await made.send(HERE)
        for _ in range(5):
            assert await made.settled(await made.send(THERE))
        assert set(made.outages) == {Partition(*HERE)}
        assert not held.done()
        made.broker.leaders[HERE] = 1
        assert await made.settled(held)
        assert not made.outages


async def test_a_fence_leaves_no_partition_in_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or nothing would ever be begun for it again."""
    async with sending(monkeypatch) as made:
        made.broker.leaders[HERE] = -1
        held = await made.send(HERE)
        while not made.outages:
            await asyncio.sleep(0.001)
        made.sender.fence()
        assert isinstance(held.exception(), LeaseLostError)
        await asyncio.sleep(0.2)
        assert not made.outages


async def test_a_batch_without_messages_leaves_no_partition_in_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """aiokafka makes one for a message that is too large."""
    async with sending(monkeypatch) as made:
        made.broker.leaders[HERE] = -1
        made.accumulator._append_batch(made.accumulator.create_builder(), HERE)
        while not made.outages:
            await asyncio.sleep(0.001)
        made.broker.leaders[HERE] = 1
        ends = time.monotonic() + HANGS
        while made.outages and time.monotonic() < ends:
            await asyncio.sleep(0.001)
        assert not made.outages
