"""What the tests of the sink need: a real ClickHouse engine, a Kafka in memory, and a bad line between."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.schema.database import create_tables
from connectors.clickhouse.sink.sink import Sink
from connectors.local.stack import LocalStack
from streams.core.codec import encode, headers_of
from streams.core.errors import LeaseLostError, RefusedError
from streams.core.messages import Alternative, Augmented, Labeled, Message, RejectedVariant
from streams.core.records import Commit, Outage, Outgoing, Partition, Record
from streams.core.settings import Settings
from streams.core.topics import Topics

TOPICS = Topics("esk")
L0, L1 = Partition(TOPICS.labeled, 0), Partition(TOPICS.labeled, 1)
A0, D0 = Partition(TOPICS.augmented, 0), Partition(TOPICS.dead_letter, 0)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
_names = itertools.count()


Database = tuple[ClickHouseClient, Settings]


@contextlib.contextmanager
def clickhouse(folder: Path) -> Iterator[tuple[str, int]]:
    """A real engine behind its HTTP front; yields host and port."""
    stack = LocalStack(folder)
    try:
        status = stack.up(kafka=False, llm=False)
        assert status.clickhouse.host
        assert status.clickhouse.port
        yield status.clickhouse.host, status.clickhouse.port
    finally:
        stack.down()


@contextlib.asynccontextmanager
async def fresh_database(address: tuple[str, int]) -> AsyncIterator[Database]:
    """A client, and settings whose result database is new and has its tables."""
    settings = Settings(
        clickhouse_host=address[0], clickhouse_port=address[1], clickhouse_database=f"db{next(_names)}"
    )
    client = ClickHouseClient.from_settings(settings)
    try:
        await create_tables(client, settings)
        yield client, settings
    finally:
        await client.close()


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

    async def send(self, message: Outgoing) -> int:
        if len(message.value or b"") > self.largest:
            raise RefusedError("too large", reason="too-large")
        return self.put(message.topic, message.partition, message.value, message.headers, message.key).offset

    async def send_many(self, messages: Sequence[Outgoing]) -> list[int]:
        return [await self.send(message) for message in messages]

    async def firsts(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        return {where: self.first.get(where, 0) for where in partitions}

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, len(self.logs.get(Partition(topic, partition), []))

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


def sink_for(
    client: ClickHouseClient,
    settings: Settings,
    kafka: FakeKafka,
    *,
    lease: FakeLease | None = None,
    writer: ClickHouseClient | None = None,
) -> Sink:
    return Sink(
        client,
        settings.result_database,
        TOPICS,
        sender=kafka,
        tail=kafka,
        topic_ids=kafka,
        lease=lease or FakeLease(),
        writer=writer,
    )


async def run_until_stored(
    sink: Sink, source: FakeInput, *, generation: int = 1, seconds: float = 20.0
) -> None:
    """Run the sink until everything is committed, then let it go."""
    task = asyncio.create_task(sink.run(source, source.committed, generation))
    try:
        async with asyncio.timeout(seconds):
            while source.lag and not task.done():
                await asyncio.sleep(0.02)
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and task.exception():
            await task


class BadLine:
    """A TCP line to ClickHouse that can be told to go wrong.

    ``cut_request_after``: cut the connection after so many bytes of a request.
    ``cut_response``: pass the request on, and cut the connection instead of answering it.
    ``cut_response_after``: cut the connection after so many bytes of an answer.
    ``swallow_answers``: pass the request on, and leave its sender without an answer.
    ``stall_seconds``: keep the end of a chunked request for so long, then pass it on, sender or not.
    ``hold_seconds``: keep a whole chunked request for so long, then pass it on, sender or no sender.
    Each applies ``times`` times.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self.cut_request_after: int | None = None
        self.cut_response = False
        self.cut_response_after: int | None = None
        self.swallow_answers = False
        self.stall_seconds = 0.0
        self.hold_seconds = 0.0
        self.times = 0
        self.cuts = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._server.getsockname()[:2]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(self._target)
        ended = threading.Event()

        def answers() -> None:
            passed = 0
            with contextlib.suppress(OSError):
                while data := server.recv(1 << 16):
                    if self.swallow_answers and self._take():
                        continue
                    passed += len(data)
                    most = 0 if self.cut_response else self.cut_response_after
                    if most is not None and passed > most and self._take():
                        break
                    client.sendall(data)
            ended.set()
            _shut(client, server)

        threading.Thread(target=answers, daemon=True).start()
        passed = 0
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                passed += len(data)
                if self.hold_seconds and b"chunked" in data and self._take():
                    while not data.endswith(b"0\r\n\r\n"):
                        data += client.recv(1 << 16)
                    time.sleep(self.hold_seconds)
                    server.sendall(data)
                    time.sleep(self.hold_seconds)
                    continue
                if self.cut_request_after is not None and passed > self.cut_request_after and self._take():
                    break
                if self.stall_seconds and data.endswith(b"0\r\n\r\n") and self._take():
                    time.sleep(self.stall_seconds)
                    server.sendall(data)
                    time.sleep(self.stall_seconds)  # the server sees the end before it sees that we are gone
                    continue
                server.sendall(data)
        _shut(client, server)

    def _take(self) -> bool:
        if self.cuts >= self.times:
            return False
        self.cuts += 1
        return True


def _shut(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


async def ids(database: Database, table: str = "logs_labeled") -> Counter[str]:
    """Row ids in a result table, and how often each stands there."""
    client, settings = database
    rows = await client.rows(f"SELECT row_id FROM {settings.result_database}.{table}")
    return Counter(row[0] for row in rows)


def each_once(*numbers: Iterable[int]) -> Counter[str]:
    """Counts of rows that are known by numbers; of one that is given twice, two."""
    return Counter(str(number) for some in numbers for number in some)
