"""A fault around a rebalance, at each call that a role makes: it goes on, or it ends with its reason.

aiokafka and Faust log what a rebalance listener raises, and go on. A role that relied on what the listener
had begun would keep its partitions and do nothing for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from aiokafka import errors as kafka
from structlog.testing import capture_logs

from connectors.clickhouse.poller import poller as polling
from connectors.clickhouse.poller.poller import Poller
from connectors.clickhouse.sink import batcher
from connectors.clickhouse.sink.batch import Batch, Refused
from connectors.clickhouse.sink.sink import Sink
from connectors.clickhouse.sink.stored_offsets import OffsetSet
from connectors.kafka import consumer as consumers
from connectors.kafka.consumer import GroupConsumer, Session
from connectors.kafka.lease import GroupLease
from streams.core import availability
from streams.core.codec import encode, headers_of
from streams.core.errors import UnavailableError
from streams.core.records import Commit, Partition
from streams.core.settings import Settings
from streams.core.topics import ConsumerGroup
from streams.pipeline import worker as workers
from streams.pipeline.worker import AgentsWorker
from tests.unit.connectors.clickhouse.poller import fakes as source
from tests.unit.connectors.clickhouse.sink import fakes as stored
from tests.unit.connectors.kafka.fakes import MEMBER, FakeConsumer, FakeCoordinator, until
from tests.unit.streams.delivery import fakes as delivery
from tests.unit.streams.roles.fault import Fault
from tests.waiting import PATIENCE

FAULTS: dict[str, Callable[[], Exception]] = {
    # aiokafka's own, the connectors' own, and one that nobody has thought of.
    "foreign": lambda: kafka.KafkaError("GroupCoordinatorNotAvailableError()"),
    "unavailable": lambda: UnavailableError("away"),
    "unexpected": lambda: RuntimeError("impossible"),
}
TAIL = ("firsts", "bounds", "bounds_many", "read", "read_many", "topic_id", "topic_ids")
SENDER = ("send", "send_many")
_MOST_CALLS = 2_000


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(consumers, "WORK_PAUSE", 0.0)
    for module in (consumers, workers, availability):
        for name in ("_FIRST_PAUSE", "_LONGEST_PAUSE", "_FIRST", "_LONGEST"):
            monkeypatch.setattr(module, name, 0.0, raising=False)
    monkeypatch.setattr(workers, "COMMIT_SECONDS", 0.001)
    for module in (polling, batcher):
        monkeypatch.setattr(module, "_AWAY_SECONDS", 0.0)
    monkeypatch.setattr(batcher, "GATHER_SECONDS", 0.0)
    monkeypatch.setattr(batcher, "APART_SECONDS", 0.0)


class Life:
    """A role between its first rebalance and what it has done after the last."""

    def __init__(self, fault: Fault, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.fault = fault
        self.monkeypatch = monkeypatch
        self.folder = folder

    async def live(self) -> None:
        """Own, work, lose, own again, and work. Raises what ends the role."""
        raise NotImplementedError


class FakeProducer:
    """What a group asks of its producer."""

    def fence(self) -> None: ...

    def fence_unconfirmed(self) -> None: ...


class GroupLife(Life):
    """A role over a `GroupConsumer`."""

    places: Sequence[Partition]

    async def live(self) -> None:
        consumer = self.consumer = FakeConsumer()
        self.fault.watch(consumer._coordinator, "fetch_committed_offsets")
        self.fault.watch(consumer, "getmany", "commit", "seek")
        self.monkeypatch.setattr(consumers, "AIOKafkaConsumer", lambda **_: consumer)
        fence = self.fault.watch(FakeProducer(), "fence", "fence_unconfirmed")
        self.group = GroupConsumer({}, ConsumerGroup("group", {"s": ("t",)}), producer=fence)
        self.fault.watch(self.group.lease, "renew")
        running = asyncio.create_task(self.group.join(self.work))
        try:
            for ownership in range(3):
                await until(lambda: running.done() or consumer.subscribed)
                await consumer.rebalance(self.places)
                done = self.prepare(ownership)
                await until(lambda done=done: running.done() or done())  # type: ignore[misc]
                if running.done():
                    running.result()
                # As another member comes; once without a word to this one, which is to be fenced.
                if ownership == 1:
                    consumer._coordinator.generation += 1
                await consumer.rebalance([])
        finally:
            running.cancel()
            await asyncio.wait([running])

    async def work(self, session: Session) -> None:
        raise NotImplementedError

    def prepare(self, ownership: int) -> Callable[[], bool]:
        """Give it something to do; returns what says that it was done."""
        raise NotImplementedError


class PollerLife(GroupLife):
    places = (Partition(source.TOPICS.cursor, 0),)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.kafka = source.FakeKafka()
        self.kafka.largest = 1_000
        self.table = source.FakeSource(clock=1_800_000_000_000_000, makes=True)
        self.fault.watch(self.kafka, *TAIL, *SENDER, "hand_over")
        self.fault.watch(self.table, "verify", "coarseness", "floor", "why_nothing")
        self.fault.watch(self.table, "now", "counts", "timeless", "newest", "bulk", "pages")

    async def work(self, session: Session) -> None:
        settings = {"poll_interval_seconds": 0.001, "poll_lookback_seconds": 60}
        await Poller(
            self.table,  # type: ignore[arg-type]
            source.TOPICS,
            Settings.model_validate(settings),
            partitions=source.PARTITIONS,
            sender=self.kafka,
            tail=self.kafka,
            topic_ids=self.kafka,
            lease=self.group.lease,
            headroom=source.FakeHeadroom(),
            lost=source.NoLosses(),  # type: ignore[arg-type]
            generation=session.generation,
            ending=session.ending,
        ).run()

    def prepare(self, ownership: int) -> Callable[[], bool]:
        first = len(self.table.rows)
        for number in range(first, first + 4):
            # The last has no place in a bulk, and one is too large for the topic.
            text = "x" * 2_000 if number == 1 else f"text {number}"
            self.table.rows.append(
                source.source_row(self.table.clock - number, text, None if number % 4 == 3 else number)
            )
        polls = self.table.polls
        return lambda: len(self.kafka.row_ids()) >= len(self.table.rows) - 1 and self.table.polls > polls


class FakeInserter:
    """The result tables, as sets of offsets."""

    def __init__(self) -> None:
        self.tables: dict[tuple[str, UUID], set[tuple[int, int]]] = {}

    async def end_others(self, generation: int) -> None: ...

    async def stored(
        self, table: str, topic_id: UUID, spans: Mapping[int, tuple[int, int]], generation: int
    ) -> dict[int, OffsetSet]:
        found = self.tables.get((table, topic_id), set())
        return {number: OffsetSet.of(o for n, o in found if n == number) for number in spans}

    async def insert(self, table: str, batch: Batch, topic_id: UUID, generation: int) -> list[Refused]:
        self.tables.setdefault((table, topic_id), set()).update(
            (one.partition, one.offset) for one in batch.records
        )
        return []


class SinkLife(GroupLife):
    places = (stored.L0, stored.D0)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.kafka, self.tables = stored.FakeKafka(), FakeInserter()
        self.sent = 0
        self.sink: Sink | None = None
        self.fault.watch(self.kafka, *(name for name in (*TAIL, *SENDER) if hasattr(self.kafka, name)))
        self.fault.watch(self.tables, "end_others", "stored", "insert")

    async def work(self, session: Session) -> None:
        if self.sink is None:
            lease = self.group.lease
            self.sink = Sink(
                SimpleNamespace(),  # type: ignore[arg-type]
                "db",
                stored.TOPICS,
                sender=self.kafka,
                tail=self.kafka,
                topic_ids=self.kafka,
                lease=lease,
            )
            self.sink._inserter = self.tables  # type: ignore[assignment]
        # What is not committed is read again.
        at = max(session.committed[stored.L0].offset, 0)
        self.consumer.records = list(self.kafka.logs.get(stored.L0, [])[at:])
        await self.sink.run(session, session.committed, session.generation)

    def prepare(self, ownership: int) -> Callable[[], bool]:
        fresh = []
        for number in range(3):
            message = stored.labeled(10 * ownership + number)
            value = b"no message" if number == 2 else encode(message)
            fresh.append(self.kafka.put(stored.L0.topic, 0, value, headers_of(message)))
        if self.consumer.records:
            self.consumer.records += fresh
        else:
            self.consumer.records = fresh
        self.sent += len(fresh)
        return lambda: self.group.done().get(stored.L0, 0) >= self.sent


class FakeThread:
    """Faust's consumer thread, in the same loop."""

    def __init__(self, app: FakeApp) -> None:
        self._app = app
        self.committed_at: dict[Partition, Commit] = {}

    async def renew_lease(self) -> None:
        await self._app.worker.lease.renew()

    async def committed(self, partitions: Sequence[Partition]) -> dict[Partition, Commit]:
        return {one: self.committed_at.get(one, Commit(-1)) for one in partitions}

    async def commit_positions(self, positions: Mapping[Partition, Commit]) -> None:
        self.committed_at |= positions


class Signal:
    def __init__(self) -> None:
        self.send: Callable[..., Awaitable[None]]

    def connect(self, listen: Callable[..., Awaitable[None]]) -> None:
        self.send = listen


class FakeApp:
    """A Faust app whose group is moved by the test. It drops what its signals raise."""

    worker: AgentsWorker

    def __init__(self) -> None:
        self.on_partitions_revoked, self.on_rebalance_complete = Signal(), Signal()
        self.crashed = self.should_stop = self.rebalancing = False
        self.crash_reason: Exception | None = None
        self.consumer_generation_id = -1
        self.assigned: frozenset[Partition] = frozenset()
        self._thread = FakeThread(self)
        self.coordinator = FakeCoordinator()

    @property
    def consumer(self) -> Any:
        return SimpleNamespace(_thread=self._thread, assignment=lambda: self.assigned)

    async def start(self) -> None:
        self.worker.lease.attach(SimpleNamespace(_coordinator=self.coordinator))

    async def stop(self) -> None: ...

    async def rebalance(self, partitions: Sequence[Partition], *, told: bool = True) -> None:
        if told:
            with contextlib.suppress(Exception):
                await self.on_partitions_revoked.send()
        self.coordinator.generation += 1 if self.coordinator.generation != -1 else 2
        self.coordinator.member_id = MEMBER
        self.consumer_generation_id = self.coordinator.generation
        self.assigned = frozenset(partitions)
        with contextlib.suppress(Exception):
            await self.on_rebalance_complete.send()


class AgentsLife(Life):
    places = (delivery.ROWS, delivery.REPLAY)

    async def live(self) -> None:
        app, broker = FakeApp(), delivery.Broker()
        self.monkeypatch.setattr(workers, "make_app", lambda *_: app)
        self.monkeypatch.setattr(workers, "add_agent", lambda *_: None)
        self.fault.watch(broker, *TAIL, *SENDER)
        self.fault.watch(app._thread, "renew_lease", "committed", "commit_positions")
        self.fault.watch(app, "start")
        producer = self.fault.watch(
            SimpleNamespace(fence=lambda: None, fence_unconfirmed=lambda: None), "fence"
        )
        lease = GroupLease()
        work = delivery.make(broker)
        work._lease = work._outbox._lease = lease
        worker = app.worker = AgentsWorker(
            group="group",
            connection={},
            data=self.folder,
            lease=lease,
            producer=producer,  # type: ignore[arg-type]
            topic_ids=broker,
            delivery=work,
            agents={},
        )
        running = asyncio.create_task(worker.run())
        beating = asyncio.create_task(self._beat(app))
        try:
            for ownership in range(3):
                await asyncio.sleep(0.002)
                await asyncio.wait(
                    [asyncio.create_task(app.rebalance(self.places)), running],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                records = [delivery.record(offset, str(offset)) for offset in range(3 * ownership + 3)]
                while not running.done():
                    if app._thread.committed_at.get(delivery.ROWS, Commit(-1)).offset == len(records):
                        break
                    owed = work.owed().get(delivery.ROWS)
                    if owed is not None:
                        work.offer_all(records[owed:], app.consumer_generation_id)
                    await asyncio.sleep(0.001)
                if running.done():
                    running.result()
        finally:
            beating.cancel()
            running.cancel()
            await asyncio.wait([running, beating])
        assert Counter(broker.rows()) == Counter(str(number) for number in range(9))

    async def _beat(self, app: FakeApp) -> None:
        while True:
            await asyncio.sleep(0.005)
            with contextlib.suppress(Exception):
                await app.coordinator._do_heartbeat()


LIVES: dict[str, type[Life]] = {"poller": PollerLife, "sink": SinkLife, "agents": AgentsLife}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("role", LIVES)
async def test_each_call_may_fail(
    role: str, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outcomes: Counter[str] = Counter()
    for at in range(1, _MOST_CALLS):
        fault = Fault(at, FAULTS[kind]())
        try:
            with capture_logs():
                async with asyncio.timeout(PATIENCE):
                    await LIVES[role](fault, monkeypatch, tmp_path).live()
            outcomes["went on"] += 1
        except TimeoutError:
            pytest.fail(f"silence after call {at}, {fault.met}: neither work nor an end")
        except Exception as error:
            # With the fault itself, told in our terms or as it came.
            if str(FAULTS[kind]().args[0]) not in str(error):
                raise
            outcomes[f"ended: {fault.met}"] += 1
        if not fault.met:
            break
    else:
        pytest.fail("it makes calls without end")
    assert outcomes["went on"] > 1 or kind == "unexpected"
