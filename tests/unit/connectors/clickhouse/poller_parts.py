"""A source table and a Kafka in memory, for tests of the poller: time is a number that the test moves."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from connectors.clickhouse.poller import Poller
from connectors.clickhouse.source import SourceRow
from streams.errors import LeaseLostError, RefusedError, UnavailableError
from streams.ports import Outgoing, Partition, Record
from streams.settings import Settings
from streams.topics import Topics

TOPICS = Topics("t")
PARTITIONS = 2


class FakeKafka:
    """Topics as lists. Implements Sender, Tail, TopicIds. ``fail_after``: so many more messages are
    written, then a send fails with part of it written."""

    def __init__(self) -> None:
        self.logs: dict[Partition, list[Record]] = {}
        self.ids: dict[str, uuid.UUID] = {}
        self.fail_after: int | None = None
        self.largest = 1_000_000

    def rows(self) -> list[Record]:
        return [record for where, log in self.logs.items() if where.topic == TOPICS.rows for record in log]

    def row_ids(self) -> list[str]:
        return [str(orjson.loads(record.value or b"")["row_id"]) for record in self.rows()]

    async def send(self, message: Outgoing) -> int:
        if len(message.value or b"") > self.largest:
            raise RefusedError("too large", reason="too-large")
        if self.fail_after is not None and message.topic == TOPICS.rows:
            if self.fail_after == 0:
                raise UnavailableError("Kafka does not answer")
            self.fail_after -= 1
        log = self.logs.setdefault(Partition(message.topic, message.partition), [])
        headers = tuple(message.headers)
        log.append(Record(message.topic, message.partition, len(log), 0, message.key, message.value, headers))
        return len(log) - 1

    async def send_many(self, messages: Sequence[Outgoing]) -> list[int]:
        return [await self.send(message) for message in messages]

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, len(self.logs.get(Partition(topic, partition), []))

    async def bounds_many(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        return {where: await self.bounds(*where) for where in partitions}

    async def read(self, topic: str, partition: int, start: int) -> AsyncIterator[list[Record]]:
        yield self.logs.get(Partition(topic, partition), [])[start:]

    async def read_many(self, starts: Mapping[Partition, int]) -> AsyncIterator[list[Record]]:
        for where, start in starts.items():
            async for records in self.read(*where, start):
                yield records

    async def topic_id(self, topic: str) -> uuid.UUID:
        return self.ids.setdefault(topic, uuid.uuid4())

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, uuid.UUID]:
        return {topic: await self.topic_id(topic) for topic in topics}


class FakeLease:
    generation = 1

    def held(self) -> bool:
        return True

    async def hold(self, generation: int) -> None:
        if generation != self.generation:
            raise LeaseLostError("over")


@dataclass
class FakeSource:
    """A table that behaves as `SourceTable`; ``polls`` counts looks for the newest rows."""

    rows: list[SourceRow] = field(default_factory=list)
    clock: int = 0
    without_time: list[SourceRow] = field(default_factory=list)
    page_rows: int = 3
    polls: int = 0
    wholes: int = 0
    name: str = "db.table"

    async def inspect(self) -> dict[str, str]:
        return {}

    async def timeless(self, most: int) -> list[SourceRow]:
        return self.without_time[:most]

    async def now(self) -> int:
        return self.clock

    async def counts(self, since: int, until: int) -> dict[int, int]:
        return dict(Counter(row.micros // 1_000_000 for row in self.rows if since <= row.micros < until))

    async def newest(self, since: int | None) -> AsyncIterator[list[SourceRow]]:
        async for page in self.pages(since):
            yield page
        self.polls += 1

    async def pages(self, since: int | None, until: int | None = None) -> AsyncIterator[list[SourceRow]]:
        found = sorted(
            (
                row
                for row in self.rows
                if (since is None or row.micros >= since) and (until is None or row.micros < until)
            ),
            key=lambda row: (row.micros, row.tie),
        )
        while found:
            end = min(self.page_rows, len(found))
            while end < len(found) and found[end][:2] == found[end - 1][:2]:
                end += 1
            yield found[:end]
            found = found[end:]
        self.wholes += 1


def source_row(micros: int, text: str, id_: int | None = None, user: str = "u") -> SourceRow:
    plain = None if id_ is None else str(id_).encode()
    tie = plain or f"{user}/{text}".encode()
    return SourceRow(micros, tie, plain, text.encode(), user.encode(), None, None)


def make_poller(source: FakeSource, kafka: FakeKafka, ending: asyncio.Event, **settings: object) -> Poller:
    given: dict[str, object] = {"poll_interval_seconds": 0.001, "poll_lookback_seconds": 60, **settings}
    return Poller(
        source,  # type: ignore[arg-type]
        TOPICS,
        Settings.model_validate(given),
        partitions=PARTITIONS,
        sender=kafka,
        tail=kafka,
        topic_ids=kafka,
        lease=FakeLease(),
        generation=1,
        ending=ending,
    )


async def poll_once(source: FakeSource, kafka: FakeKafka, **settings: object) -> Poller:
    """A poller that begins, reads everything that is there now, and ends."""
    ending = asyncio.Event()
    poller = make_poller(source, kafka, ending, **settings)
    task = asyncio.create_task(poller.run())
    polls = source.polls
    while source.polls < polls + 1 and not task.done():
        await asyncio.sleep(0)
    ending.set()
    await task
    return poller
