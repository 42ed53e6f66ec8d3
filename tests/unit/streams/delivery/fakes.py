"""Fakes in memory for the tests of delivery: a broker of lists, rows, a step."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from streams.core.codec import encode
from streams.core.errors import LeaseLostError, RefusedError
from streams.core.messages import Labeled, Row
from streams.core.outcomes import Done, Reject, Retry
from streams.core.records import Commit, Outage, Outgoing, Partition, Record
from streams.delivery.delivery import Delivery, _nobody
from streams.delivery.ownership import Report
from streams.delivery.routes import Flow, Limits, Route
from streams.observability.step_spans import StepSpans

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = Partition("rows", 0)
REPLAY = Partition("replay", 0)


class Broker:
    """Sender, Tail and Lease over lists."""

    def __init__(self) -> None:
        self.logs: dict[tuple[str, int], list[Outgoing]] = {}
        self.outages: dict[Partition, Outage] = {}
        self.generation = 1
        self.incarnations: dict[str, int] = {}
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.refuse: Callable[[Outgoing], bool] = lambda message: False
        # By partition: what is above lacks on some replica, and is neither seen nor confirmed.
        self.high_watermark: dict[tuple[str, int], int] = {}
        self.first: dict[tuple[str, int], int] = {}  # what retention has left
        self.read_count: Counter[str] = Counter()  # messages of each topic that were read by `read_many`
        self.times: dict[Partition, list[int]] = {}  # of messages, for `offsets_at`
        self.asked_for: list[int] = []

    async def send(self, message: Outgoing) -> int:
        if self.refuse(message):
            raise RefusedError("too large", reason="too-large")
        log = self.logs.setdefault((message.topic, message.partition), [])
        log.append(message)
        offset = len(log) - 1
        while self.high_watermark.get((message.topic, message.partition), offset + 1) <= offset:
            await asyncio.sleep(0)
        return offset

    async def send_many(self, messages: Sequence[Outgoing]) -> list[int]:
        return [await self.send(message) for message in messages]

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        end = len(self.logs.get((topic, partition), [])[: self.high_watermark.get((topic, partition))])
        return self.first.get((topic, partition), 0), end

    async def read(self, topic: str, partition: int, start: int) -> AsyncIterator[list[Record]]:
        first, end = await self.bounds(topic, partition)
        start = max(start, first)
        log = self.logs.get((topic, partition), [])
        yield [
            Record(topic, partition, start + i, 0, m.key, m.value, tuple(m.headers))
            for i, m in enumerate(log[start:end])
        ]

    async def firsts(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        return {where: (await self.bounds(*where))[0] for where in partitions}

    async def bounds_many(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        return {partition: await self.bounds(*partition) for partition in partitions}

    async def written(
        self, partitions: Iterable[Partition], others: Iterable[Partition] = ()
    ) -> AsyncIterator[dict[Partition, tuple[int, int]]]:
        ends = {partition: len(self.logs.get(partition, [])) for partition in partitions}
        if found := await self.bounds_many([where for where in others if where not in ends]):
            # Most tests offer messages that are in no log.
            yield {where: at if where in self.logs else (at[0], 2**62) for where, at in found.items()}
        while ends:
            found = await self.bounds_many(list(ends))
            if known := {partition: at for partition, at in found.items() if at[1] >= ends[partition]}:
                ends = {partition: end for partition, end in ends.items() if partition not in known}
                yield known
            await asyncio.sleep(0)

    async def written_many(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        return {where: at async for found in self.written(partitions) for where, at in found.items()}

    async def read_many(
        self,
        starts: Mapping[Partition, int],
        bounds: Mapping[Partition, tuple[int, int]] | None = None,
        reached: Callable[[Partition], None] = lambda partition: None,
    ) -> AsyncIterator[list[Record]]:
        for partition, start in starts.items():
            first, end = bounds[partition] if bounds is not None else await self.bounds(*partition)
            begin = first if start > end else max(first, start)
            async for records in self.read(*partition, begin):
                if found := [one for one in records if one.offset < end]:
                    self.read_count[partition.topic] += len(found)
                    yield found
            reached(partition)

    async def offsets_at(self, partitions: Sequence[Partition], millis: int) -> dict[Partition, int]:
        self.asked_for.append(millis)
        found = {}
        for where in partitions:
            end = len(self.logs.get(where, []))
            times = self.times.get(where, [millis] * end)
            found[where] = next((n for n, at in enumerate(times) if at >= millis), end)
        return found

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, UUID]:
        return {topic: UUID(int=self.incarnations.get(topic, 0)) for topic in topics}

    async def topic_id(self, topic: str) -> UUID:
        return (await self.topic_ids([topic]))[topic]

    def held(self) -> bool:
        return self.may_write.is_set()

    async def hold(self, generation: int) -> None:
        await self.may_write.wait()
        if generation != self.generation:
            raise LeaseLostError("over")

    def rows(self, topic: str = "labeled") -> list[str]:
        return [(m.key or b"").decode() for m in self.logs.get((topic, 0), [])]


def row(row_id: str) -> Row:
    return Row(row_id=row_id, text=f"text {row_id}", created_at=NOW, polled_at=NOW)


def record(offset: int, row_id: str | None = None, topic: str = "rows", value: bytes | None = b"") -> Record:
    if row_id is not None:
        value = encode(row(row_id))
    return Record(topic, 0, offset, 0, (row_id or "").encode(), value)


async def label(message: Row) -> Done[Labeled] | Reject | Retry:
    return Done(Labeled(**message.model_dump(), label="other", label_version="v1", model="m", labeled_at=NOW))


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0)


def make(
    broker: Broker,
    step: Callable[[Any], Awaitable[Any]] = label,
    limits: Limits | None = None,
    unwanted: Callable[[Record], bool] = lambda record: False,
    erased: Callable[[Row], bool] = lambda row: False,
    full: Callable[[Partition], bool] = lambda partition: False,
    report: Report = _nobody,
    spans: StepSpans | None = None,
) -> Delivery:
    route = Route(Row, Labeled, step, "labeled", "v1")
    return Delivery(
        Flow(
            ("rows", "replay"),
            ("labeled",),
            "dead",
            lambda record: route,
            frozenset({"replay"}),
            unwanted=unwanted,
            erased=erased,
        ),
        sender=broker,
        tail=broker,
        topic_ids=broker,
        lease=broker,
        limits=limits or Limits({"label": 8}),
        sleep=no_sleep,
        full=full,
        report=report,
        spans=spans,
    )


async def take_over(
    delivery: Delivery, committed: Mapping[Partition, Commit], generation: int
) -> dict[Partition, Commit]:
    """`Delivery.assigned`, until it is known what the former owners did."""
    at_once = await delivery.assigned(committed, generation)
    while delivery.taking_over():
        await asyncio.sleep(0)
    return at_once


async def settle(delivery: Delivery) -> None:
    for _ in range(200):
        await asyncio.sleep(0)
    assert delivery.in_flight == 0
