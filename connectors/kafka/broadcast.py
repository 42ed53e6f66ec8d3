"""One consumer of a topic for many readers, without a group: a ring buffer of the last messages, and a way to
catch up.

A reader within the ring costs no request to Kafka. One that begins further back reads up to the ring with a
consumer of its own, and then continues with the others. One that the ring overtakes is disconnected.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.kafka.admin import Admin
from connectors.kafka.connection import start_client, ungrouped_consumer
from connectors.kafka.errors import translate
from connectors.kafka.tail import TailReader, to_record
from streams.core.errors import LabelstreamError, RefusedError, UnavailableError
from streams.core.records import Partition
from streams.ports.label_feed import LiveLabel, LiveSlice, Start, live_label

log = structlog.get_logger()

_WAIT_MS = 500
_AGAIN_SECONDS = 1.0
_START_SECONDS = 10.0
_ALONE_SECONDS = 30.0  # without readers the consumer stops after this
_SLICE = 500
_CATCHING_UP = 8  # maximum number of readers that catch up at a time


class Broadcast:
    """Implements `streams.ports.label_feed.Feed`. ``ring_messages`` and ``ring_bytes``: the largest
    content.
    """

    def __init__(
        self,
        connection: dict[str, Any],
        topic: str,
        *,
        ring_messages: int = 20_000,
        ring_bytes: int = 16 * 2**20,
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._most, self._most_bytes = ring_messages, ring_bytes
        self._tail = TailReader(connection)
        self._catching_up = asyncio.Semaphore(_CATCHING_UP)
        self.readers = 0
        self._ring: dict[int, LiveLabel] = {}  # by number, which only increases
        self._oldest = self._next = 0
        self._bytes = 0
        # By partition: the ring has everything from the floor to the head.
        self._floors: list[int] = []
        self._heads: list[int] = []
        self._age = 0  # incremented when the readers' offsets become invalid
        self._changed = asyncio.Event()
        self._trouble: LabelstreamError | None = None
        self._running: asyncio.Task[None] | None = None
        self._stopped = False

    def stop(self) -> None:
        """End all readers, now and from now on."""
        self._stopped = True
        self._tell()

    async def close(self) -> None:
        """Stop everything."""
        self.stop()
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def follow(self, start: Start, idle_seconds: float) -> AsyncGenerator[LiveSlice]:
        self.readers += 1
        try:
            await self._begun()
            age = self._age
            at = await self._resolved(start)
            yield LiveSlice(tuple(at), ())
            # While it is behind the ring.
            while age == self._age and any(a < floor for a, floor in zip(at, self._floors, strict=True)):
                async with self._catching_up, contextlib.aclosing(self._caught_up(at)) as slices:
                    async for found in slices:
                        yield found
            number = self._oldest
            while age == self._age and not self._stopped and number >= self._oldest:
                if number == self._next:
                    changed = self._changed
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), idle_seconds)
                    if number == self._next and not self._stopped:
                        yield LiveSlice(tuple(at), ())
                    continue
                end = min(self._next, number + _SLICE)
                labels = [self._ring[one] for one in range(number, end)]
                number = end
                if fresh := [one for one in labels if one.offset >= at[one.partition]]:
                    before = tuple(at)
                    _advance(at, fresh)
                    yield LiveSlice(before, fresh)
        finally:
            self.readers -= 1

    async def _caught_up(self, at: list[int]) -> AsyncGenerator[LiveSlice]:
        """Read to the present end; ``at`` is advanced."""
        floors = self._floors
        places = {
            Partition(self._topic, number): a
            for number, (a, floor) in enumerate(zip(at, floors, strict=False))
            if a < floor
        }
        ends = await self._tail.bounds_many(list(places))
        async for records in self._tail.read_many(places):
            for first in range(0, len(records), _SLICE):
                labels = [live_label(one) for one in records[first : first + _SLICE]]
                before = tuple(at)
                _advance(at, labels)
                yield LiveSlice(before, labels)
            if self._stopped:
                return
        for place, (_, end) in ends.items():
            at[place.partition] = max(at[place.partition], end)  # the last offset may hold no message

    async def _resolved(self, start: Start) -> list[int]:
        if start == "now":
            return list(self._heads)
        places = [Partition(self._topic, number) for number in range(len(self._heads))]
        bounds = [one for _, one in sorted((await self._tail.bounds_many(places)).items())]
        if start == "beginning":
            return [first for first, _ in bounds]
        if len(start) != len(bounds):
            raise RefusedError(f"{self._topic} has {len(bounds)} partitions", reason="unknown-position")
        # After the end: the topic was recreated since.
        return [first if not first <= a <= end else a for a, (first, end) in zip(start, bounds, strict=True)]

    async def _begun(self) -> None:
        if self._running is None or self._running.done():
            self._trouble = None
            self._running = asyncio.create_task(self._run())
        until = time.monotonic() + _START_SECONDS
        while not self._heads:
            if self._stopped:
                raise UnavailableError("the service ends", after=1.0)
            if self._trouble is not None:
                raise self._trouble
            if time.monotonic() > until:
                raise UnavailableError("Kafka does not answer in time", setting="KAFKA_BOOTSTRAP_SERVERS")
            changed = self._changed
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), 0.5)

    async def _run(self) -> None:
        try:
            while not self._stopped:
                try:
                    await self._read()
                    return
                except LabelstreamError as error:
                    if self._trouble is None:
                        log.warning("broadcast_waits", topic=self._topic, reason=str(error))
                    self._trouble = error
                    self._tell()
                if not self.readers:
                    return
                await asyncio.sleep(_AGAIN_SECONDS)
        finally:
            self._forget()

    async def _read(self) -> None:
        """Fill the ring until there have been no readers for a while."""
        consumer = ungrouped_consumer(self._connection, fetch_max_wait_ms=_WAIT_MS)
        try:
            await start_client(consumer, consumer.stop)
            await self._place(consumer)
            self._trouble = None
            self._tell()
            alone = 0.0
            while not self._stopped:
                batches = await consumer.getmany(timeout_ms=_WAIT_MS, max_records=2_000)
                for messages in batches.values():
                    self._keep([live_label(to_record(message)) for message in messages])
                    await asyncio.sleep(0)  # let readers take the messages before the ring overwrites them
                now = time.monotonic()
                alone = 0.0 if self.readers else alone or now
                if alone and now - alone > _ALONE_SECONDS:
                    return
        except Exception as error:
            raise translate(error) from error
        finally:
            with contextlib.suppress(Exception):
                await consumer.stop()

    async def _place(self, consumer: AIOKafkaConsumer) -> None:
        """Continue where the ring ends, or start with new messages."""
        found = (await Admin(self._connection).find([self._topic], config=False)).get(self._topic)
        if found is None:
            raise UnavailableError(f"there is no topic {self._topic} yet", setting="TOPIC_PREFIX")
        places = [TopicPartition(self._topic, number) for number in range(found.partitions)]
        consumer.assign(places)
        bounds = await consumer.end_offsets(places)
        ends = [int(bounds[place]) for place in places]
        if len(ends) != len(self._heads) or any(a > end for a, end in zip(self._heads, ends, strict=True)):
            self._forget()
            self._heads, self._floors = list(ends), list(ends)
        for place, head in zip(places, self._heads, strict=True):
            consumer.seek(place, head)

    def _keep(self, labels: list[LiveLabel]) -> None:
        for one in labels:
            if one.offset < self._heads[one.partition]:
                self._forget()  # the topic was recreated
                raise UnavailableError(f"{self._topic} was made anew", setting="TOPIC_PREFIX")
            if one.offset > self._heads[one.partition] and not self._since(one.partition):
                self._floors[one.partition] = one.offset  # retention removed the messages in between
            self._ring[self._next] = one
            self._next += 1
            self._bytes += len(one.data)
            self._heads[one.partition] = one.offset + 1
        while len(self._ring) > self._most or self._bytes > self._most_bytes:
            gone = self._ring.pop(self._oldest)
            self._oldest += 1
            self._bytes -= len(gone.data)
            self._floors[gone.partition] = gone.offset + 1
        self._tell()

    def _since(self, partition: int) -> bool:
        """Whether the ring has anything of the partition."""
        return self._floors[partition] < self._heads[partition]

    def _forget(self) -> None:
        self._ring.clear()
        self._oldest = self._next
        self._bytes = 0
        self._heads, self._floors = [], []
        self._age += 1
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _advance(at: list[int], labels: list[LiveLabel]) -> None:
    for one in labels:
        at[one.partition] = max(at[one.partition], one.offset + 1)
