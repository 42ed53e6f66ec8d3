"""What the tests of the sink need: leases, and a Kafka in memory."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from streams.core.codec import encode, headers_of
from streams.core.errors import LeaseLostError, RefusedError
from streams.core.messages import Alternative, Augmented, Labeled, Message, RejectedVariant
from streams.core.records import Commit, Outage, Outgoing, Partition, Record
from streams.core.topics import Topics

TOPICS = Topics("esk")
L0, L1 = Partition(TOPICS.labeled, 0), Partition(TOPICS.labeled, 1)
A0, D0 = Partition(TOPICS.augmented, 0), Partition(TOPICS.dead_letter, 0)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class FakeLease:
    """Held, by generation 1 unless told otherwise."""

    def __init__(self, generation: int = 1) -> None:
        self.generation = generation

    def held(self) -> bool:
        return True

    async def hold(self, generation: int) -> None:
        if generation != self.generation:
            raise LeaseLostError("over")


class LateLease(FakeLease):
    """Ours, but the heartbeats are late until ``beat`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.beat = asyncio.Event()
        self.waiting = asyncio.Event()

    def held(self) -> bool:
        return self.beat.is_set()

    async def hold(self, generation: int) -> None:
        await super().hold(generation)
        if not self.held():
            self.waiting.set()
        await self.beat.wait()


class FakeKafka:
    """Topics as lists of records. Implements Sender, Tail and TopicIds."""

    def __init__(self, largest: int = 1_000_000) -> None:
        self.logs: dict[Partition, list[Record]] = {}
        self.outages: dict[Partition, Outage] = {}
        self.ids: dict[str, uuid.UUID] = {}
        self.largest = largest
        self.reads: list[tuple[int, int]] = []
        self.first: dict[Partition, int] = {}  # what retention has left
        self.stale: dict[Partition, int] = {}  # the ends that a former leader tells
        self.silent: set[Partition] = set()  # without a leader
        self.mended = asyncio.Event()

    def put(
        self,
        topic: str,
        partition: int,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        key: bytes | None = b"k",
    ) -> Record:
        log = self.logs.setdefault(Partition(topic, partition), [])
        record = Record(topic, partition, len(log), 1_772_366_400_000, key, value, tuple(headers))
        log.append(record)
        return record

    def publish(self, message: Message, topic: str, partition: int = 0) -> Record:
        return self.put(topic, partition, encode(message), headers_of(message))

    def recreate(self, topic: str) -> None:
        """Delete the topic and make it again."""
        self.ids[topic] = uuid.uuid4()
        for partition in [one for one in self.logs if one.topic == topic]:
            self.logs[partition] = []

    def cut(self, where: Partition, end: int) -> None:
        """A leader is elected that lacks what is from ``end`` on."""
        del self.logs[where][end:]

    async def send(self, message: Outgoing) -> int:
        if message[:2] in self.silent:
            self.outages[Partition(*message[:2])] = Outage(0.0, "it has no leader")
            await self.mended.wait()
        if len(message.value or b"") > self.largest:
            raise RefusedError("too large", reason="too-large")
        return self.put(message.topic, message.partition, message.value, message.headers, message.key).offset

    def mend(self) -> None:
        """Every partition has a leader, and gets what waits for it."""
        self.silent, self.outages = set(), {}
        self.mended.set()

    async def send_many(self, messages: Sequence[Outgoing]) -> list[int]:
        return [await self.send(message) for message in messages]

    async def firsts(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        return {where: self.first.get(where, 0) for where in partitions}

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, len(self.logs.get(Partition(topic, partition), []))

    async def bounds_many(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        return {
            where: (0, self.stale[where]) if where in self.stale else await self.bounds(*where)
            for where in partitions
        }

    async def written(
        self, partitions: Iterable[Partition], others: Iterable[Partition] = ()
    ) -> AsyncIterator[dict[Partition, tuple[int, int]]]:
        asked = {*partitions, *others}
        found = {where: (self.first.get(where, 0), (await self.bounds(*where))[1]) for where in asked}
        yield {where: found[where] for where in asked - self.silent}
        if asked & self.silent:
            await self.mended.wait()
            yield {where: found[where] for where in asked & self.silent}

    async def written_many(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        return {where: await self.bounds(*where) for where in partitions}

    async def read_many(
        self, starts: Mapping[Partition, int], bounds: Mapping[Partition, tuple[int, int]]
    ) -> AsyncIterator[list[Record]]:
        for where, start in starts.items():
            first, end = bounds[where]
            if (begin := first if start > end else start) < end:
                self.reads.append((where.partition, begin))
                yield self.logs[where][begin:end]

    async def topic_id(self, topic: str) -> uuid.UUID:
        return self.ids.setdefault(topic, uuid.uuid4())

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, uuid.UUID]:
        return {topic: await self.topic_id(topic) for topic in topics}


class FakeInput:
    """The group's view of a FakeKafka: starts at what is committed, remembers commits."""

    def __init__(
        self, kafka: FakeKafka, partitions: Sequence[Partition], committed: dict[Partition, Commit]
    ) -> None:
        self._kafka = kafka
        self.commits = committed
        self.positions = {one: max(committed.get(one, Commit(0)).offset, 0) for one in partitions}

    @property
    def committed(self) -> dict[Partition, Commit]:
        return {one: self.commits.get(one, Commit(-1)) for one in self.positions}

    @property
    def lag(self) -> int:
        ends = {one: len(self._kafka.logs.get(one, [])) for one in self.positions}
        return sum(end - max(self.commits.get(one, Commit(0)).offset, 0) for one, end in ends.items())

    async def fetch(self, *, seconds: float, most: int) -> list[Record]:
        found: list[Record] = []
        for partition, position in self.positions.items():
            log = self._kafka.logs.get(partition, [])
            if position > len(log):  # out of range: begin again, as the consumer does
                position = 0
            taken = log[position : position + most - len(found)]
            self.positions[partition] = position + len(taken)
            found += taken
        if not found:
            await asyncio.sleep(min(seconds, 0.02))
        return found

    async def commit(self, positions: Mapping[Partition, Commit]) -> None:
        self.commits.update(positions)

    def seek(self, positions: Mapping[Partition, int]) -> None:
        self.positions.update(positions)


def labeled(number: int, **changes: Any) -> Labeled:
    values: dict[str, Any] = {
        "row_id": str(number),
        "text": f"не могу войти в личный кабинет, ошибка {number}",
        "created_at": START + timedelta(seconds=number, microseconds=123456),
        "user_id": "u1",
        "polled_at": START,
        "label": "login",
        "confidence": 0.9,
        "alternatives": [Alternative(label="payment", confidence=0.05)],
        "label_version": "v1",
        "model": "m",
        "labeled_at": START,
    }
    return Labeled(**(values | changes))


def augmented(number: int, **changes: Any) -> Augmented:
    values: dict[str, Any] = {
        **labeled(number).model_dump(),
        "variants": ["личный кабинет не открывается"],
        "rejected": [RejectedVariant(text="x", reason="too-short")],
        "augment_model": "q",
        "augmented_at": START,
    }
    return Augmented(**(values | changes))
