"""Batches by size or time, read ahead within a limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from connectors.clickhouse.sink import batcher as intakes
from connectors.clickhouse.sink.batcher import Batcher
from streams.core.errors import LeaseLostError, UnavailableError
from streams.core.records import Partition, Record
from tests.unit.connectors.clickhouse.sink.fakes import TOPICS, FakeInput, FakeKafka
from tests.waiting import PATIENCE, eventually

L0 = Partition(TOPICS.labeled, 0)


class Scripted(FakeInput):
    """Raises what it is told to; counts what it gave."""

    def __init__(self, kafka: FakeKafka) -> None:
        super().__init__(kafka, [L0], {})
        self.error: Exception | None = None
        self.given = 0

    async def fetch(self, *, seconds: float, most: int) -> list[Record]:
        if self.error is not None:
            raise self.error
        found = await super().fetch(seconds=seconds, most=most)
        self.given += len(found)
        if found:
            await asyncio.sleep(0)
        return found


@pytest.fixture(autouse=True)
def batches_follow_at_once(monkeypatch: pytest.MonkeyPatch) -> float:
    """How far apart they are otherwise."""
    apart = intakes.APART_SECONDS
    monkeypatch.setattr(intakes, "APART_SECONDS", 0.0)
    return apart


@pytest.fixture
def kafka() -> FakeKafka:
    return FakeKafka()


@pytest.fixture
async def source(kafka: FakeKafka) -> Scripted:
    return Scripted(kafka)


@pytest.fixture
async def intake(source: Scripted) -> AsyncIterator[Batcher]:
    made = Batcher(source)
    made.start()
    yield made
    await made.stop()


def put(kafka: FakeKafka, count: int, size: int = 1) -> None:
    for _ in range(count):
        kafka.put(TOPICS.labeled, 0, b"x" * size)


class Clock:
    """The time of arrivals, in the test's hands."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(intakes, "time", made)
    return made


async def test_what_comes_soon_after_the_first_is_of_its_batch(
    kafka: FakeKafka, intake: Batcher, clock: Clock
) -> None:
    put(kafka, 1)
    batch = asyncio.create_task(intake.batch())
    await eventually(lambda: len(intake) == 1)
    clock.now += intakes.GATHER_SECONDS * 0.9
    put(kafka, 1)
    await eventually(lambda: len(intake) == 2)
    assert not batch.done()
    clock.now += intakes.GATHER_SECONDS
    assert len(await batch) == 2


async def test_light_traffic_is_stored_in_batches_that_are_apart(
    kafka: FakeKafka,
    intake: Batcher,
    clock: Clock,
    batches_follow_at_once: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    apart = batches_follow_at_once
    assert 0.5 < apart < 0.8  # two inserts a second at most, and a row is stored within one
    monkeypatch.setattr(intakes, "APART_SECONDS", apart)
    for _ in range(2):  # after a pause
        put(kafka, 1)
        await eventually(lambda: len(intake) == 1)
        clock.now += intakes.GATHER_SECONDS
        assert len(await intake.batch()) == 1
        intake.done(1)
    put(kafka, 1)
    await eventually(lambda: len(intake) == 1)
    clock.now += apart - intakes.GATHER_SECONDS * 1.1  # it has waited for longer than what comes first does
    batch = asyncio.create_task(intake.batch())
    put(kafka, 1)
    await eventually(lambda: len(intake) == 2)
    assert not batch.done()
    clock.now += intakes.GATHER_SECONDS * 0.2
    assert len(await batch) == 2


async def test_what_comes_after_many_full_batches_waits_no_longer(
    kafka: FakeKafka,
    intake: Batcher,
    clock: Clock,
    batches_follow_at_once: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intakes, "APART_SECONDS", batches_follow_at_once)
    for _ in range(20):
        intake._most = 1
        put(kafka, 1)
        assert len(await intake.batch()) == 1
        intake.done(1)
    intake._most = 10
    put(kafka, 1)
    await eventually(lambda: len(intake) == 1)
    clock.now += batches_follow_at_once * 1.01
    async with asyncio.timeout(PATIENCE):
        assert len(await intake.batch()) == 1


async def test_a_batch_stays_until_it_is_done(kafka: FakeKafka, intake: Batcher) -> None:
    put(kafka, 1)
    first = await intake.batch()
    put(kafka, 1)
    await eventually(lambda: len(intake) == 2)
    assert [record.offset for record in await intake.batch()] == [0, 1]
    intake.done(len(first))
    assert [record.offset for record in await intake.batch()] == [1]


async def test_a_full_batch_does_not_wait(
    kafka: FakeKafka, intake: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intakes, "GATHER_SECONDS", 3600.0)
    put(kafka, intakes.BATCH_ROWS + 1)
    async with asyncio.timeout(PATIENCE):
        assert len(await intake.batch()) == intakes.BATCH_ROWS
        intake.done(intakes.BATCH_ROWS)
        put(kafka, 3, intakes.BATCH_BYTES // 2)
        batch = await intake.batch()
    assert [record.offset for record in batch] == [intakes.BATCH_ROWS + number for number in range(3)]


async def test_what_waited_while_a_batch_was_stored_is_not_gathered_for_long(
    kafka: FakeKafka, intake: Batcher, clock: Clock
) -> None:
    for number in range(2):
        put(kafka, 1)
        await eventually(lambda number=number: len(intake) == number + 1)  # type: ignore[misc]
        clock.now += intakes.GATHER_SECONDS  # at the second, while the first is being stored
    intake.done(1)
    assert len(await intake.batch()) == 1  # with a clock that stands: it had waited enough


@pytest.mark.parametrize("size", [1, 400_000])
async def test_reads_ahead_within_a_limit(
    kafka: FakeKafka, source: Scripted, intake: Batcher, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(intakes, "BATCH_ROWS", 1000)
    monkeypatch.setattr(intakes, "_FETCH", 10)
    put(kafka, 10_000 if size == 1 else 500, size)
    most = 2000 if size == 1 else 2 * intakes.BATCH_BYTES // size + 10
    await eventually(lambda: source.given >= most - 10)
    await asyncio.sleep(0.1)
    assert source.given <= most
    taken = 0
    while taken < 300:  # and goes on when there is room
        batch = await intake.batch()
        assert [record.offset for record in batch][:1] == [taken]
        taken += len(batch)
        intake.done(len(batch))


async def test_after_trouble_batches_are_small_and_grow_again(
    kafka: FakeKafka, intake: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intakes, "BATCH_ROWS", 4096)
    intake._most = 4096
    put(kafka, 20_000)
    sizes = []
    intake.smaller(len(await intake.batch()))
    for _ in range(6):
        batch = await intake.batch()
        sizes.append(len(batch))
        intake.done(len(batch))
    assert sizes == [512, 1024, 2048, 4096, 4096, 4096]
    intake.smaller(300)
    assert len(await intake.batch()) == intakes.FEWEST_ROWS


async def test_what_was_not_begun_belongs_to_the_next_owner(
    kafka: FakeKafka, source: Scripted, intake: Batcher
) -> None:
    put(kafka, 1)
    await eventually(lambda: source.given)
    source.error = LeaseLostError("over")
    await eventually(lambda: intake._reader is not None and intake._reader.done())
    with pytest.raises(LeaseLostError, match="over"):
        await intake.batch()


async def test_a_wait_for_records_ends_with_the_session(source: Scripted, intake: Batcher) -> None:
    batch = asyncio.create_task(intake.batch())
    await asyncio.sleep(0.05)
    source.error = LeaseLostError("over")
    with pytest.raises(LeaseLostError, match="over"):
        await asyncio.wait_for(batch, PATIENCE)


async def test_an_unexpected_error_is_not_swallowed(source: Scripted, intake: Batcher) -> None:
    batch = asyncio.create_task(intake.batch())
    await asyncio.sleep(0.05)
    source.error = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(batch, PATIENCE)


async def test_waits_for_kafka_and_says_so_once(
    kafka: FakeKafka,
    source: Scripted,
    intake: Batcher,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(intakes, "_AWAY_SECONDS", 0.01)
    source.error = UnavailableError("no brokers")
    await asyncio.sleep(0.3)
    source.error = None
    put(kafka, 1)
    assert len(await intake.batch()) == 1
    assert capsys.readouterr().out.count("waiting for Kafka") == 1


async def test_records_of_a_topic_that_is_gone_are_forgotten(
    kafka: FakeKafka, source: Scripted, intake: Batcher
) -> None:
    put(kafka, 3)
    await eventually(lambda: source.given == 3)
    await intake.stop()
    intake.drop(lambda record: record.offset < 2)
    intake.start()
    assert [record.offset for record in await intake.batch()] == [2]
