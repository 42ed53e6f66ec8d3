"""Pages of old rows are confirmed while the next is made: what may be believed of them, and when."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from connectors.clickhouse.poller.cursor import Cursor
from connectors.clickhouse.poller.publisher import OneByOneError, Publisher
from streams.core.context import TRACEPARENT
from streams.core.errors import LeaseLostError, RefusedError, RetryableError, UnavailableError
from streams.core.records import Partition, Run
from streams.observability.publish_spans import PublishSpans
from streams.observability.tracer import Tracer
from tests.unit.connectors.clickhouse.poller.fakes import (
    PARTITIONS,
    TOPICS,
    FakeKafka,
    FakeLease,
    FakeSource,
    bulk_page,
    make_poller,
    poll_once,
    source_row,
)
from tests.unit.streams.observability.span_fakes import KeptSpans
from tests.waiting import PATIENCE

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND
OLD = NOW - 10_000 * SECOND


class SlowKafka(FakeKafka):
    """Writes and confirms what was handed over when the test says so; a gate for each page."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[asyncio.Future[None]] = []
        self._open = False

    @property
    def open(self) -> bool:
        """Whether everything is written at once, what waits too."""
        return self._open

    @open.setter
    def open(self, value: bool) -> None:
        self._open = value
        for gate in self.gates:
            if not gate.done():
                gate.set_result(None)

    async def hand_over(self, runs: Sequence[Run]) -> list[asyncio.Task[list[tuple[int, int]]]]:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        if self._open:
            gate.set_result(None)

        async def later(run: Run) -> list[tuple[int, int]]:
            await gate
            (sending,) = await FakeKafka.hand_over(self, [run])
            return await sending

        held = [Run(run.topic, run.partition, iter(list(run.messages))) for run in runs]
        return [asyncio.create_task(later(run)) for run in held]


async def publisher_to(kafka: FakeKafka, spans: PublishSpans | None = None) -> Publisher:
    made = Publisher(
        "db.t",
        TOPICS,
        partitions=PARTITIONS,
        least_bytes=3,
        sender=kafka,
        lease=FakeLease(),
        counts=Counter(),
        spans=spans,
    )
    await made.learn(kafka, dict.fromkeys(made.written, 0), None, (), NOW)
    return made


async def test_a_page_is_believed_when_it_is_confirmed_and_in_its_turn() -> None:
    kafka = SlowKafka()
    publisher = await publisher_to(kafka)
    first = bulk_page([source_row(OLD + at, f"text {at}", at + 1) for at in range(20)])
    second = bulk_page([source_row(OLD + 100 + at, f"text {at}", at + 101) for at in range(20)])
    assert await publisher.publish(first, 1, NOW) is None
    again = asyncio.create_task(publisher.publish(second, 1, NOW))
    while len(kafka.gates) < 2:
        await asyncio.sleep(0)
    kafka.gates[1].set_result(None)  # confirmed before the first is, which has its places noted first
    await asyncio.sleep(0.01)
    assert not again.done()
    assert publisher.starts.at(OLD, ahead_named=True)[TOPICS.rows] == {0: 0, 1: 0}
    kafka.gates[0].set_result(None)
    assert await again == OLD + 19
    assert await publisher.finish() == OLD + 119
    assert await publisher.finish() is None
    assert len(kafka.rows()) == 40
    # The runs are in the order of the pages: the window of the second begins after the first's rows.
    assert set(publisher.starts.at(OLD + 119, ahead_named=True)[TOPICS.rows].values()) != {0}


async def test_rows_on_their_way_are_known_to_the_next_page() -> None:
    kafka = SlowKafka()
    publisher = await publisher_to(kafka)
    await publisher.publish(bulk_page([source_row(OLD, "one text", 7)]), 1, NOW)
    again = asyncio.create_task(publisher.publish(bulk_page([source_row(OLD + 1, "other", 7)]), 1, NOW))
    await asyncio.sleep(0.01)
    kafka.open = True
    await again
    await publisher.finish()
    assert sorted(row_id.partition("~")[0] for row_id in kafka.row_ids()) == ["7", "7"]
    assert len(set(kafka.row_ids())) == 2


@pytest.mark.parametrize("near", [NOW, NOW - 30 * SECOND, NOW + 10**6 * SECOND])
async def test_rows_of_the_present_are_waited_for(near: int) -> None:
    """A cursor names rows of the future as published: they have to be."""
    kafka = SlowKafka()
    publisher = await publisher_to(kafka)
    page = bulk_page([source_row(OLD, "older", 1), source_row(near, "near", 2)])
    publishing = asyncio.create_task(publisher.publish(page, 1, NOW))
    await asyncio.sleep(0.01)
    assert not publishing.done()
    kafka.gates[0].set_result(None)
    assert await publishing == near


async def test_rows_in_order_wait_for_the_page_before_them() -> None:
    kafka = SlowKafka()
    publisher = await publisher_to(kafka)
    await publisher.publish(bulk_page([source_row(OLD, "older", 1)]), 1, NOW)
    publishing = asyncio.create_task(publisher.publish([source_row(OLD + 1, "next", 2)], 1, NOW))
    await asyncio.sleep(0.01)
    assert kafka.row_ids() == []
    kafka.open = True
    assert await publishing == OLD + 1
    assert sorted(kafka.row_ids()) == ["1", "2"]


async def test_nobody_learns_while_something_is_on_its_way() -> None:
    """The first page fails, and the second is written long after: the poller ends after that."""
    source, kafka = FakeSource(clock=NOW, makes=True, page_rows=2), SlowKafka()
    source.rows = [source_row(OLD + at, f"text {at}", at) for at in range(1, 5)]
    poller = make_poller(source, kafka, asyncio.Event(), poll_lookback_seconds=100_000)
    running = asyncio.create_task(poller.run())
    while len(kafka.gates) < 2:
        await asyncio.sleep(0)
    kafka.gates[0].set_exception(UnavailableError("Kafka does not answer"))
    await asyncio.sleep(0.05)
    assert not running.done()
    kafka.gates[1].set_result(None)
    with pytest.raises(UnavailableError):
        await running
    assert sorted(kafka.row_ids()) == ["3", "4"]
    last = FakeKafka()
    last.logs, last.ids = kafka.logs, kafka.ids
    ending = asyncio.Event()
    following = make_poller(source, last, ending, poll_lookback_seconds=100_000)
    again = asyncio.create_task(following.run())
    polls = source.polls
    while source.polls == polls and len(last.rows()) < 4:
        await asyncio.sleep(0)
    ending.set()
    await again
    assert sorted(last.row_ids()) == ["1", "2", "3", "4"]


async def polls_away(kafka: SlowKafka, monkeypatch: pytest.MonkeyPatch) -> tuple[FakeSource, Any, Any]:
    """A poller whose source goes away while its first page is on its way."""
    monkeypatch.setattr("connectors.clickhouse.poller.poller._AWAY_SECONDS", 0.0)
    source = FakeSource(clock=NOW, makes=True, page_rows=2, fail_after=1)
    source.rows = [source_row(OLD + at, f"text {at}", at) for at in range(1, 9)]
    ending = asyncio.Event()
    running = asyncio.create_task(make_poller(source, kafka, ending, poll_lookback_seconds=100_000).run())
    while not kafka.gates:
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    assert source.fail_after is None
    return source, running, ending


async def test_a_source_that_goes_away_leaves_what_is_on_its_way_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kafka = SlowKafka()
    source, running, ending = await polls_away(kafka, monkeypatch)
    kafka.open = True
    async with asyncio.timeout(PATIENCE):
        while len(kafka.rows()) < 8:
            await asyncio.sleep(0)
    ending.set()
    await running
    cursor = Cursor.decode(kafka.logs[Partition(TOPICS.cursor, 0)][-1].value)
    assert cursor is not None
    assert set(cursor.starts[TOPICS.rows].values()) == {0}  # the window holds all eight
    await poll_once(source, kafka, poll_lookback_seconds=100_000)
    assert sorted(kafka.row_ids()) == [str(at) for at in range(1, 9)]


async def test_what_fails_while_the_source_is_away_is_not_taken_for_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kafka = SlowKafka()
    _, running, _ = await polls_away(kafka, monkeypatch)
    kafka.gates[0].set_exception(UnavailableError("Kafka does not answer"))
    with pytest.raises(UnavailableError):
        await running


async def test_a_refusal_of_the_page_before_is_told_first() -> None:
    kafka = SlowKafka()
    publisher = await publisher_to(kafka)
    await publisher.publish(bulk_page([source_row(OLD, "older", 1)]), 1, NOW)
    kafka.gates[0].set_exception(RefusedError("too large", reason="too-large"))

    async def lost(runs: Sequence[Run]) -> Any:
        raise LeaseLostError("taken back with the page before")

    kafka.hand_over = lost  # type: ignore[method-assign]
    with pytest.raises(OneByOneError):
        await publisher.publish(bulk_page([source_row(OLD + 1, "newer", 2)]), 1, NOW)


async def test_after_something_was_dropped_nothing_is_published_without_learning() -> None:
    kafka = SlowKafka()
    publisher = await publisher_to(kafka)
    page = bulk_page([source_row(OLD, "older", 1)])
    await publisher.publish(page, 1, NOW)
    kafka.gates[0].set_exception(UnavailableError("Kafka does not answer"))
    await publisher.over()
    with pytest.raises(RetryableError):
        await publisher.publish(page, 1, NOW)
    await publisher.learn(kafka, dict.fromkeys(publisher.written, 0), None, (), NOW)
    kafka.open = True
    await publisher.publish(page, 1, NOW)
    await publisher.finish()
    assert kafka.row_ids() == ["1"]


async def test_of_equal_rows_as_many_are_published_as_there_are() -> None:
    kafka = FakeKafka()
    publisher = await publisher_to(kafka)
    equal = source_row(OLD, "equal")
    for page in ([equal], [equal] * 3, [equal] * 3):
        await publisher.publish(bulk_page(page), 1, NOW)
        await publisher.finish()
    assert len(set(kafka.row_ids())) == len(kafka.row_ids()) == 3
    assert {row_id.rpartition(":")[2] for row_id in kafka.row_ids()} == {"1", "2", "3"}


async def test_traced_rows_are_joined_with_their_messages() -> None:
    kafka, kept = FakeKafka(), KeptSpans()
    publisher = await publisher_to(kafka, PublishSpans(Tracer(kept), "poll", "db.t", TOPICS.dead_letter))
    rows = [source_row(OLD + at, f"text {at}", at + 1) for at in range(20)]
    await publisher.publish(bulk_page(rows[:10]), 1, NOW)
    await publisher.publish(rows[10:], 1, NOW)
    await publisher.finish()
    sent = {dict(message.headers)[TRACEPARENT] for message in kafka.rows()}
    publishes = kept.named("publish")
    assert {one.context.header for one in publishes} == sent
    assert len(sent) == 20
    places = {(record.key, record.partition): record.offset for record in kafka.rows()}
    for one in publishes:
        key = str(one.attributes["labelstream.row_id"]).encode()
        partition = int(str(one.attributes["messaging.destination.partition.id"]))
        assert one.attributes["messaging.kafka.offset"] == places[key, partition]
    assert [span.attributes["db.response.returned_rows"] for span in kept.named("poll page")] == [10, 10]
