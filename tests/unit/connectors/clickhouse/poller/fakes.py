"""A source table and a Kafka in memory, for tests of the poller: time is a number that the test moves."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from connectors.clickhouse.erasure.erased_list import Erased, nothing_erased
from connectors.clickhouse.poller.bulk_page import BulkPage
from connectors.clickhouse.poller.bulk_source import BulkSource
from connectors.clickhouse.poller.lost.search import Window
from connectors.clickhouse.poller.message_sql import COLUMNS
from connectors.clickhouse.poller.plain_rows import QuickRows
from connectors.clickhouse.poller.poller import Poller
from connectors.clickhouse.poller.published_rows import Published
from connectors.clickhouse.poller.row_identity import Mark, content_of, mark_of
from connectors.clickhouse.source.table import SourceRow
from streams.core.codec import CREATED_AT
from streams.core.context import TRACEPARENT
from streams.core.errors import ConfigurationError, LeaseLostError, RefusedError, UnavailableError
from streams.core.records import Outage, Outgoing, Partition, Record, Run
from streams.core.settings import Settings
from streams.core.times import micros_of, moment
from streams.core.topics import Topics
from streams.ports.kafka import WaitsFor
from streams.privacy.door import Door

TOPICS = Topics("t")
PARTITIONS = 2


class FakeKafka:
    """Topics as lists. Implements Sender, Tail, TopicIds. ``fail_after``: so many more messages are
    written, then a send fails with part of it written."""

    def __init__(self) -> None:
        self.logs: dict[Partition, list[Record]] = {}
        self.outages: dict[Partition, Outage] = {}
        self.ids: dict[str, uuid.UUID] = {}
        self.fail_after: int | None = None
        self.largest = 1_000_000
        self.first: dict[Partition, int] = {}  # what retention has left

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

    async def hand_over(self, runs: Sequence[Run]) -> list[asyncio.Task[list[tuple[int, int]]]]:
        async def sent(run: Run) -> list[tuple[int, int]]:
            return [
                (await self.send(Outgoing(run.topic, run.partition, *message)), 1) for message in run.messages
            ]

        tasks = [asyncio.create_task(sent(run)) for run in runs]
        for task in tasks:
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # as the producer does
        return tasks

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        where = Partition(topic, partition)
        return self.first.get(where, 0), len(self.logs.get(where, []))

    async def firsts(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        return {where: (await self.bounds(*where))[0] for where in partitions}

    async def bounds_many(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        return {where: await self.bounds(*where) for where in partitions}

    async def read(self, topic: str, partition: int, start: int) -> AsyncIterator[list[Record]]:
        where = Partition(topic, partition)
        yield self.logs.get(where, [])[max(start, self.first.get(where, 0)) :]

    async def written_many(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        return await self.bounds_many(list(partitions))

    async def read_many(
        self, starts: Mapping[Partition, int], bounds: Mapping[Partition, tuple[int, int]] | None = None
    ) -> AsyncIterator[list[Record]]:
        for where, start in starts.items():
            async for records in self.read(*where, start):
                yield records

    async def topic_id(self, topic: str) -> uuid.UUID:
        return self.ids.setdefault(topic, uuid.uuid4())

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, uuid.UUID]:
        return {topic: await self.topic_id(topic) for topic in topics}


class HeldKafka(FakeKafka):
    """Partitions can be ``dead``: what is sent to them waits for `mend`, or for `fence`, which drops it."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: set[Partition] = set()
        self._waiting: list[tuple[Outgoing, asyncio.Future[None]]] = []

    def kill(self, number: int, topic: str = TOPICS.rows) -> Partition:
        where = Partition(topic, number)
        self.dead.add(where)
        return where

    def mend(self, where: Partition) -> None:
        """It can be written again, and what waits for it is."""
        self.dead.discard(where)
        self.outages.pop(where, None)
        for message, turn in self._waiting:
            if message[:2] == where and not turn.done():
                turn.set_result(None)

    async def write_unconfirmed(self) -> None:
        """What waits is written, and nobody is told."""
        for message, _ in self._waiting:
            await super().send(message)

    def fence(self) -> None:
        """As the producer's of a former owner. The outages are known to the next one once it sends."""
        for _, turn in self._waiting:
            if not turn.done():
                turn.set_exception(LeaseLostError("taken back before it was confirmed"))
        self.outages.clear()

    async def send(self, message: Outgoing) -> int:
        if message[:2] in self.dead:
            self.outages[Partition(*message[:2])] = Outage(0.0, "it has no leader")
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((message, turn))
            await turn
        return await super().send(message)


class FakeLease:
    generation = 1

    def held(self) -> bool:
        return True

    async def hold(self, generation: int) -> None:
        if generation != self.generation:
            raise LeaseLostError("over")


class FakeHeadroom:
    """Room for ``room`` messages, or for all; a look frees ``frees`` more. ``held``: looks without room."""

    def __init__(self, room: int | None = None, frees: int = 0) -> None:
        self.room = room
        self.frees = frees
        self.looks = self.held = 0
        self.waits: list[WaitsFor] = []

    async def refresh(self, *, now: bool = False, pending: int = 0) -> None:
        self.looks += 1
        if self.room == 0:
            self.held += 1
            self.room += self.frees

    def left(self) -> int:
        return 2**31 if self.room is None else self.room

    def full(self, partition: Partition) -> bool:
        return self.left() == 0

    def wrote(self, count: int) -> None:
        if self.room is not None:
            self.room = max(0, self.room - count)


class NoLosses:
    """Nothing is lost. ``remembers``: marks that the tables know."""

    def __init__(self, remembers: Sequence[Mark] = ()) -> None:
        self.remembers = remembers
        self.asked: list[tuple[int, int]] = []

    async def step(self, window: Window) -> None: ...

    async def close(self) -> None: ...

    async def remember(self, published: Published, begin: int, until: int, partitions: int) -> None:
        self.asked.append((begin, until))
        published.add(self.remembers)


@dataclass
class FakeSource:
    """A table that behaves as `BulkSource`; ``polls`` counts looks for the newest rows. ``makes``: its server
    makes the messages of plain rows. ``fail_after``: so many more pages are read, then it is away once."""

    rows: list[SourceRow] = field(default_factory=list)
    clock: int = 0
    without_time: list[SourceRow] = field(default_factory=list)
    page_rows: int = 3
    makes: bool = False
    fail_after: int | None = None
    polls: int = 0
    wholes: int = 0
    coarse: int = 0
    refused: ConfigurationError | None = None
    name: str = "db.table"

    async def verify(self) -> None:
        if self.refused is not None:
            raise self.refused

    async def coarseness(self) -> int:
        return self.coarse

    async def floor(self, start: str) -> int | None:
        if start == "now":
            return self.clock
        return None if start == "beginning" else micros_of(datetime.fromisoformat(start))

    async def why_nothing(self, since: int | None) -> ConfigurationError | None:
        found = any(since is None or row.micros >= since for row in self.rows)
        return ConfigurationError("no times") if self.without_time and not found else None

    async def timeless(self, most: int) -> list[SourceRow]:
        return self.without_time[:most]

    async def now(self) -> int:
        return self.clock

    async def counts(self, since: int, until: int) -> dict[int, int]:
        return dict(Counter(row.micros // 1_000_000 for row in self.rows if since <= row.micros < until))

    async def newest(
        self, since: int | None, told: Callable[[int], None]
    ) -> AsyncGenerator[list[SourceRow] | BulkPage, None]:
        told(self.clock)
        async for page in self.bulk(since):
            yield page
        self.polls += 1

    async def bulk(
        self, since: int | None, until: int | None = None
    ) -> AsyncGenerator[list[SourceRow] | BulkPage, None]:
        async for page in self.pages(since, until):
            yield bulk_page(page) if self.makes else page

    async def pages(
        self, since: int | None, until: int | None = None
    ) -> AsyncGenerator[list[SourceRow], None]:
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
            if self.fail_after == 0:
                self.fail_after = None
                raise UnavailableError("ClickHouse does not answer")
            if self.fail_after is not None:
                self.fail_after -= 1
            yield found[:end]
            found = found[end:]
        self.wholes += 1


def bulk_page(rows: Sequence[SourceRow]) -> BulkPage:
    """The page that a server would make of ``rows``."""
    quick = QuickRows("", 2**64, 3)
    columns: list[list[Any]] = [[] for _ in COLUMNS]
    for row in rows:
        content = content_of(row)
        mark = mark_of(row, content)
        made = quick.outgoing(row, content, mark, moment(0))
        raw = b"".join(b"-," if part is None else b"%d:%s," % (len(part), part) for part in row[2:])
        headers = dict(made.headers) if made else {}
        values: tuple[Any, ...] = (
            *(row.micros, mark.content, mark.id, made.partition if made else 0, made is not None),
            (made.key if made else row.id) or b"",
            (made.value or b"").rpartition(b'"polled_at":"')[0] + b'"polled_at":"' if made else raw,
            *(headers.get(name, b"") for name in (CREATED_AT, TRACEPARENT)),
            mark.header(),
        )
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return BulkPage.of(columns)


def source_row(micros: int, text: str, id_: int | None = None, user: str = "u") -> SourceRow:
    plain = None if id_ is None else str(id_).encode()
    tie = plain or f"{user}/{text}".encode()
    return SourceRow(micros, tie, plain, text.encode(), user.encode(), None, None)


def make_poller(
    source: FakeSource | BulkSource,
    kafka: FakeKafka,
    ending: asyncio.Event,
    headroom: FakeHeadroom | None = None,
    lost: NoLosses | None = None,
    door: Door | None = None,
    erased: Erased = nothing_erased,
    **settings: object,
) -> Poller:
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
        headroom=headroom or FakeHeadroom(),
        lost=lost or NoLosses(),  # type: ignore[arg-type]
        generation=1,
        ending=ending,
        door=door,
        erased=erased,
    )


async def poll_once(
    source: FakeSource,
    kafka: FakeKafka,
    headroom: FakeHeadroom | None = None,
    lost: NoLosses | None = None,
    door: Door | None = None,
    erased: Erased = nothing_erased,
    **settings: object,
) -> Poller:
    """A poller that begins, reads everything that is there now, and ends."""
    ending = asyncio.Event()
    poller = make_poller(source, kafka, ending, headroom, lost, door, erased, **settings)
    task = asyncio.create_task(poller.run())
    polls = source.polls
    while source.polls < polls + 1 and not task.done():
        await asyncio.sleep(0)
    ending.set()
    await task
    return poller
