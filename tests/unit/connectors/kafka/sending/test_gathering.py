"""Which messages wait for the next ones, and what a batch is when it goes out."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka.producer import message_accumulator
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from connectors.kafka.sending import gathering
from connectors.kafka.sending.batch_sizes import BatchSizes, new_batch
from connectors.kafka.sending.gathering import (
    ALONE_SECONDS,
    BUSY,
    GATHER_SECONDS,
    MANY,
    ROUND_SECONDS,
    GatheringAccumulator,
)
from streams.core.context import REPLAY

HERE, THERE = TopicPartition("labeled", 0), TopicPartition("labeled", 1)


class Queue:
    """An accumulator whose clock the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        for module in (message_accumulator, gathering):
            monkeypatch.setattr(module, "time", clock)
        self.accumulator = GatheringAccumulator(None, 1000, 0, 40.0, loop=asyncio.get_running_loop())
        self.accumulator.sizes = BatchSizes()

    async def put(self, place: TopicPartition = HERE, *, replay: bool = False) -> None:
        token = REPLAY.set(replay)
        try:
            await self.accumulator.add_message(place, b"k", b"v", 10.0)
        finally:
            REPLAY.reset(token)

    def left(self, place: TopicPartition = HERE) -> float:
        """Seconds until the first batch may go out."""
        batch = self.accumulator._batches[place][0]
        return round(batch._ctime + batch._linger_time - self.now, 6)

    def sent(self, place: TopicPartition = HERE) -> None:
        self.accumulator._pop_batch(place).done_noack()


@pytest.fixture
async def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    return Queue(monkeypatch)


async def test_only_what_follows_closely_gathers(queue: Queue) -> None:
    await queue.put()
    assert queue.left() == ALONE_SECONDS
    queue.sent()
    queue.now += GATHER_SECONDS / 2
    await queue.put()
    assert queue.left() == GATHER_SECONDS
    await queue.put(THERE)  # each partition by itself
    assert queue.left(THERE) == ALONE_SECONDS
    queue.sent()
    queue.now += GATHER_SECONDS * 2
    await queue.put()
    assert queue.left() == ALONE_SECONDS


async def test_where_many_come_all_partitions_go_out_at_once(queue: Queue) -> None:
    """At the ends of rounds, which do not depend on the partition, and need no look before."""
    for number in range(BUSY - 1):
        await queue.put(TopicPartition("other", number))
        queue.now += 0.005
    queue.accumulator.next_look = queue.now + ROUND_SECONDS  # as the sender would set it
    queue.accumulator._waiter_future = waiter = asyncio.get_running_loop().create_future()
    await queue.put()
    assert queue.left() == ROUND_SECONDS
    queue.now += 0.02
    await queue.put(THERE)
    assert queue.left(THERE) == queue.left() == round(ROUND_SECONDS - 0.02, 6)
    assert not waiter.done()
    queue.now += ROUND_SECONDS  # another round; too late for the first one's messages
    await queue.put(TopicPartition("labeled", 3))
    assert queue.left(TopicPartition("labeled", 3)) == ALONE_SECONDS


async def test_those_that_join_a_batch_do_not_delay_it(queue: Queue) -> None:
    await queue.put()
    queue.sent()
    queue.now += 0.001
    for _ in range(3):
        await queue.put()
        queue.now += 0.01
    assert queue.left() == round(GATHER_SECONDS - 0.03, 6)
    assert len(queue.accumulator._batches[HERE]) == 1


async def test_a_live_message_does_not_wait_with_those_of_a_replay(queue: Queue) -> None:
    await queue.put(replay=True)
    assert queue.left() == ROUND_SECONDS
    queue.now += 0.01
    await queue.put(replay=True)
    queue.accumulator._waiter_future = waiter = asyncio.get_running_loop().create_future()
    await queue.put()
    assert queue.left() == ALONE_SECONDS
    assert waiter.done()  # the sender has a timer for the later moment


async def test_nothing_gathers_where_many_wait(queue: Queue) -> None:
    """Their senders wait for the confirmations, and begin nothing new."""
    for number in range(MANY - 1):
        await queue.put(TopicPartition("labeled", number % 8))
    assert not queue.accumulator.crowded
    queue.accumulator._waiter_future = waiter = asyncio.get_running_loop().create_future()
    await queue.put()
    assert queue.accumulator.crowded
    assert waiter.done()
    queue.sent()
    assert not queue.accumulator.crowded


async def test_what_is_tried_again_is_counted_once(queue: Queue) -> None:
    for _ in range(MANY):
        await queue.put()
    batch = queue.accumulator._pop_batch(HERE)
    for _ in range(3):
        queue.accumulator.reenqueue(batch)
        batch = queue.accumulator._pop_batch(HERE)
    for _ in range(MANY):
        await queue.put(THERE)
    assert queue.accumulator.crowded


def test_a_batch_is_compressed_and_read_again() -> None:
    values = [b'{"row_id":"%d","text":"where is my card","label":"other"}' % number for number in range(20)]
    batch = new_batch(100_000)
    for value in values:
        batch.append(timestamp=1, key=None, value=value)
    size = batch.size()
    built = bytes(batch._build())
    assert len(built) < size / 4
    found = MemoryRecords(built).next_batch()
    assert found is not None
    assert [one.value for one in found] == values


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_sender_leaves_its_message_and_its_neighbours(queue: Queue, fails: bool) -> None:
    """`LeasedProducer.send` relies on it: it awaits the future unshielded."""
    first, second = [await queue.accumulator.add_message(HERE, b"k", b"v", 10.0) for _ in range(2)]
    first.cancel()
    batch = queue.accumulator._pop_batch(HERE)
    assert batch.record_count == 2
    if fails:
        batch.failure(ValueError("refused"))
        assert isinstance(second.exception(), ValueError)
    else:
        batch.done(5)
        assert second.result().offset == 6
    assert first.cancelled()
