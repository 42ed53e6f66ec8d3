"""Each mechanism replaced by one that does nothing: then its promise breaks.

Every scene is played twice on the real broker (and engine): as the product is, where nothing is lost or
doubled, and with the mechanism gone, where something is. Owners are objects in this process; a crash is an
owner that is dropped before it commits.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.poller.bulk_source import BulkSource
from connectors.clickhouse.poller.lost.lost_rows import LostRows
from connectors.clickhouse.poller.poller import Poller
from connectors.clickhouse.sink import inserter as insert
from connectors.clickhouse.sink.sink import Sink
from connectors.clickhouse.sink.stored_offsets import OffsetSet
from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection
from connectors.kafka.headroom import ReaderHeadroom
from connectors.kafka.lease import GroupLease
from connectors.kafka.producer import LeasedProducer
from connectors.kafka.reader_positions import ReaderPositions
from connectors.kafka.tail import TailReader
from streams.core.environment import load
from streams.core.losses import Losses
from streams.core.messages import Labeled, Row
from streams.core.outcomes import Done
from streams.core.records import Commit, Outgoing, Partition, Record
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.delivery import ownership as ownership_module
from streams.delivery.commit_window import CommitWindow, Slot
from streams.delivery.delivery import Delivery
from streams.delivery.routes import Limits
from streams.jobs.in_flight_rows import InFlightReader
from streams.pipeline.topology import agents_flow
from tests.faults.actors import Actor
from tests.faults.driver import initialise
from tests.faults.ledger import read_topic
from tests.faults.world import World
from tests.waiting import eventually

ROWS = 20
NOW = datetime.now(UTC).replace(microsecond=0)


class NoTail(TailReader):
    """Remembers nothing: every partition looks as if nobody had written to it."""

    async def read_many(
        self,
        starts: Mapping[Partition, int],
        bounds: Mapping[Partition, tuple[int, int]] | None = None,
        reached: Callable[[Partition], None] = lambda partition: None,
    ) -> AsyncIterator[list[Record]]:
        for where in starts:
            reached(where)
        for _ in ():
            yield []

    async def read(self, topic: str, partition: int, start: int) -> AsyncIterator[list[Record]]:
        for _ in ():
            yield []


class NoLease(GroupLease):
    """Everybody may always write."""

    def held(self) -> bool:
        return True

    async def hold(self, generation: int) -> None:
        return None


class NoOrder(CommitWindow):
    """Commits past whatever finishes, whether or not what stands before it has."""

    def finish(self, slot: Slot) -> None:
        slot.done = True
        self._position = max(self._position, slot.offset + 1)


class Group:
    """What a lease listens to: a member that a test gives heartbeats and generations."""

    def __init__(self) -> None:
        self._coordinator = SimpleNamespace(
            generation=1,
            group_id="group",
            member_id="me",
            _do_heartbeat=self._beat,
            _do_commit_offsets=None,
            _send_req=self._describe,
            reset_generation=None,
            request_rejoin=None,
        )
        self.alive = True

    async def _beat(self) -> bool:
        return self.alive

    async def _describe(self, _: Any) -> Any:
        members = [("me", "client", "host", b"", b"")] if self.alive else []
        return SimpleNamespace(groups=[(0, "group", "Stable", "consumer", "range", members, 0)])


class Scene:
    """Topics and a database of a scene's own, and the parts that its owners are made of."""

    def __init__(self, parts: World, name: str, folder: Path) -> None:
        self.parts = parts
        self.name = name
        self.settings: Settings = load(parts.environment(name), None)
        self.topics = Topics(name)
        self.connection = connection(self.settings)
        self.admin = Admin(self.connection)
        self._folder = folder
        self._producers: list[LeasedProducer] = []

    async def prepare(self) -> None:
        await self.parts.command(f"CREATE DATABASE IF NOT EXISTS {self.name}")
        actor = Actor("sink-1", self.parts.environment(self.name), self._folder)
        await asyncio.to_thread(initialise, actor)
        await self.parts.keep_doubles(self.name)

    async def member(self, kind: type[GroupLease] = GroupLease) -> tuple[GroupLease, Group]:
        group, lease = Group(), kind()
        lease.attach(group)
        await lease.renew()
        return lease, group

    def producer(self, lease: GroupLease) -> LeasedProducer:
        self._producers.append(LeasedProducer(self.connection, lease))
        return self._producers[-1]

    def tail(self, kind: type[TailReader] = TailReader) -> TailReader:
        return kind(self.connection)

    def labeller(
        self,
        lease: GroupLease,
        step: Callable[[Row], Awaitable[Done[Labeled]]],
        tail: type[TailReader] = TailReader,
    ) -> Delivery:
        return Delivery(
            agents_flow(self.topics, label=step, label_version="v1", augment=step),  # type: ignore[arg-type]
            sender=self.producer(lease),
            tail=self.tail(tail),
            topic_ids=self.admin,
            lease=lease,
            limits=Limits(in_flight={"label": ROWS, "augment": 1}),
        )

    async def stop(self) -> None:
        for producer in self._producers:
            producer.fence()
            await producer.stop()

    async def times(self, topic: str) -> Counter[str]:
        """How often each row is on ``topic``."""
        messages = await read_topic(self.parts, topic, "read_uncommitted")
        return Counter((message.key or b"").decode() for message in messages)

    async def fill(self) -> None:
        """Put `records` on their topic: a takeover looks whether it holds what was committed."""
        producer = LeasedProducer(self.connection)
        rows = [Outgoing(self.topics.rows, 0, b"", record.value) for record in self.records()]
        await producer.send_many(rows)
        await producer.stop()

    def records(self) -> list[Record]:
        return [_record(self.topics.rows, offset) for offset in range(ROWS)]


@pytest.fixture
async def scene(parts: World, new_name: Callable[[], str], tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(parts, new_name(), tmp_path)
    await made.prepare()
    yield made
    await made.stop()


def _record(topic: str, offset: int) -> Record:
    from streams.core.codec import encode

    row = Row(row_id=str(offset), text=f"запрос {offset}", created_at=NOW, polled_at=NOW)
    return Record(topic, 0, offset, 0, str(offset).encode(), encode(row))


async def label(row: Row) -> Done[Labeled]:
    return Done(Labeled(**row.model_dump(), label="other", label_version="v1", model="m", labeled_at=NOW))


async def take_over(owner: Delivery, committed: Mapping[Partition, Commit], generation: int) -> None:
    """Wait until it is known what former owners did."""
    await owner.assigned(committed, generation)
    await eventually(lambda: not owner.taking_over())


async def consume(owner: Delivery, records: Sequence[Record], generation: int) -> None:
    """Offer ``records`` and wait until all are finished."""
    for record in records:
        owner.offer(record, generation)
    await eventually(lambda: owner.in_flight == 0 and owner.waiting == 0)


@pytest.mark.parametrize("gone", [False, True])
async def test_tail_memory_keeps_a_killed_owners_work_from_being_doubled(scene: Scene, gone: bool) -> None:
    rows = Partition(scene.topics.rows, 0)
    lease, _ = await scene.member()
    first = scene.labeller(lease, label)
    await take_over(first, {rows: Commit(-1)}, 1)
    begun = first.commits()
    await consume(first, scene.records(), 1)  # killed before it commits
    lease, group = await scene.member()
    group._coordinator.generation = 2
    second = scene.labeller(lease, label, NoTail if gone else TailReader)
    await take_over(second, begun, 2)
    await consume(second, scene.records(), 2)
    times = await scene.times(scene.topics.labeled)
    assert len(times) == ROWS
    assert set(times.values()) == ({2} if gone else {1})


@pytest.mark.parametrize("gone", [False, True])
async def test_the_lease_keeps_an_owner_that_was_paused_from_writing(scene: Scene, gone: bool) -> None:
    rows = Partition(scene.topics.rows, 0)
    woken = asyncio.Event()

    async def sleeper(row: Row) -> Done[Labeled]:
        await woken.wait()
        return await label(row)

    lease, group = await scene.member(NoLease if gone else GroupLease)
    paused = scene.labeller(lease, sleeper)
    await take_over(paused, {rows: Commit(-1)}, 1)
    for record in scene.records():
        paused.offer(record, 1)
    await eventually(lambda: paused.in_flight == ROWS)
    group.alive = False  # the group has given it up, and it does not know
    group._coordinator.generation = 2
    lease, group = await scene.member()
    group._coordinator.generation = 2
    heir = scene.labeller(lease, label)
    await take_over(heir, {rows: Commit(-1)}, 2)
    await consume(heir, scene.records(), 2)
    woken.set()
    await eventually(lambda: paused.in_flight == 0)
    times = await scene.times(scene.topics.labeled)
    assert len(times) == ROWS
    assert set(times.values()) == ({2} if gone else {1})


@pytest.mark.parametrize("gone", [False, True])
async def test_the_window_keeps_an_unfinished_message_from_being_committed_over(
    scene: Scene, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if gone:
        monkeypatch.setattr(ownership_module, "CommitWindow", NoOrder)
    await scene.fill()
    rows = Partition(scene.topics.rows, 0)

    async def hangs_on_the_first(row: Row) -> Done[Labeled]:
        if row.row_id == "0":
            await asyncio.Event().wait()
        return await label(row)

    lease, _ = await scene.member()
    first = scene.labeller(lease, hangs_on_the_first)
    await take_over(first, {rows: Commit(-1)}, 1)
    for record in scene.records():
        first.offer(record, 1)
    await eventually(lambda: first.in_flight == 1)
    committed = first.commits()
    await first.revoked(owner=False, seconds=1)  # killed
    lease, group = await scene.member()
    group._coordinator.generation = 2
    second = scene.labeller(lease, label)
    await take_over(second, committed, 2)
    await consume(second, scene.records()[committed[rows].offset :], 2)
    times = await scene.times(scene.topics.labeled)
    assert times == {str(number): 1 for number in range(1 if gone else 0, ROWS)}


@pytest.mark.parametrize("gone", [False, True])
async def test_the_pollers_memory_keeps_rows_from_being_published_again(scene: Scene, gone: bool) -> None:
    await scene.parts.command(
        f"CREATE TABLE {scene.name}.logs (id UInt64, query_text String, created_at DateTime, "
        "user_id Nullable(String)) ENGINE = MergeTree ORDER BY created_at"
    )
    rows = [(number, f"запрос {number}", NOW, "u") for number in range(ROWS)]
    await scene.parts.insert(f"{scene.name}.logs", rows, ("id", "query_text", "created_at", "user_id"))
    client = ClickHouseClient.from_settings(scene.settings)
    readers = ReaderPositions(scene.connection, {scene.topics.rows: [f"{scene.name}-agents"]})
    try:
        for kind in (TailReader, NoTail if gone else TailReader):
            lease, _ = await scene.member()
            ending = asyncio.Event()
            producer, tail, headroom = scene.producer(lease), scene.tail(kind), ReaderHeadroom(readers)
            lost = LostRows(
                client,
                scene.settings,
                scene.topics,
                Losses(),
                in_flight=InFlightReader(scene.connection, scene.topics),
                tail=tail,
                sender=producer,
                lease=lease,
                headroom=headroom,
                generation=1,
                counts=Counter(),
            )
            poller = Poller(
                BulkSource(client, scene.settings),
                scene.topics,
                scene.settings,
                partitions=scene.settings.topic_partitions,
                sender=producer,
                tail=tail,
                topic_ids=scene.admin,
                lease=lease,
                headroom=headroom,
                lost=lost,
                generation=1,
                ending=ending,
            )
            running = asyncio.create_task(poller.run())
            await eventually(lambda poller=poller: poller.counts["read"] >= ROWS)  # type: ignore[misc]
            await lease.renew()
            ending.set()
            await running
    finally:
        await readers.close()
        await client.close()
    times = await scene.times(scene.topics.rows)
    assert len(times) == ROWS
    assert set(times.values()) == ({2} if gone else {1})


@pytest.mark.parametrize("gone", [False, True])
async def test_the_sinks_exact_set_keeps_what_is_stored_from_being_stored_again(
    scene: Scene, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, _ = await scene.member()
    labeller = scene.labeller(lease, label)
    await take_over(labeller, {Partition(scene.topics.rows, 0): Commit(-1)}, 1)
    await consume(labeller, scene.records(), 1)
    labeled = Partition(scene.topics.labeled, 0)
    records = [record async for found in scene.tail().read(*labeled, 0) for record in found]
    assert len(records) == ROWS

    async def nothing(*arguments: Any, **_: Any) -> dict[int, OffsetSet]:
        return {number: OffsetSet() for number in arguments[-1]}

    client = ClickHouseClient.from_settings(scene.settings)
    try:
        for owner in (1, 2):  # the first is killed between its insert and its commit
            if gone and owner == 2:
                monkeypatch.setattr(insert, "stored_offsets", nothing)
            lease, group = await scene.member()
            group._coordinator.generation = owner
            sink = Sink(
                client,
                scene.name,
                scene.topics,
                sender=scene.producer(lease),
                tail=scene.tail(),
                topic_ids=scene.admin,
                lease=lease,
            )
            await sink.assigned({labeled: Commit(-1)}, owner)
            await sink.store(records)
    finally:
        await client.close()
    stored = await scene.parts.query(f"SELECT row_id, count() FROM {scene.name}.logs_labeled GROUP BY row_id")
    assert len(stored) == ROWS
    assert {count for _, count in stored} == ({2} if gone else {1})
