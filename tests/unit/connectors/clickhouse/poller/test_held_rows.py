"""A partition of the rows topic that cannot be written: its rows wait, each once, and no others do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.clickhouse.poller import held_rows
from connectors.clickhouse.poller.backfill import poller_begins
from connectors.clickhouse.poller.cursor import Cursor
from connectors.clickhouse.poller.poller import Poller
from connectors.clickhouse.poller.row_identity import CONTENT, content_of, mark_of
from connectors.clickhouse.source.table import SourceRow
from streams.core.records import Partition, Record
from streams.core.settings import Settings
from streams.core.topics import partition_of
from tests.unit.connectors.clickhouse.poller.fakes import (
    PARTITIONS,
    TOPICS,
    FakeSource,
    HeldKafka,
    NoLosses,
    make_poller,
    poll_once,
    source_row,
)
from tests.unit.connectors.clickhouse.poller.test_poller import NOW, SECOND, arrivals
from tests.waiting import PATIENCE


def row_to(number: int, micros: int, id_: int) -> SourceRow:
    """A row for that partition."""
    texts = (f"text {id_} {at}" for at in range(1000))
    text = next(text for text in texts if partition_of(text, PARTITIONS) == number)
    return source_row(micros, text, id_)


def rows_between(first: int, last: int, start: int) -> list[SourceRow]:
    """A row a second from id ``first`` on, to both partitions in turn; of the even ids to 0."""
    return [row_to(id_ % 2, start + (id_ - first) * SECOND, id_) for id_ in range(first, last)]


def ids(rows: Sequence[SourceRow]) -> list[str]:
    return sorted((row.id or b"").decode() for row in rows)


def cursor_of(kafka: HeldKafka) -> Cursor:
    found = Cursor.decode(kafka.logs[Partition(TOPICS.cursor, 0)][-1].value)
    assert found is not None
    return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


@asynccontextmanager
async def polling(
    source: FakeSource, kafka: HeldKafka, lost: NoLosses | None = None, **settings: object
) -> AsyncIterator[tuple[Poller, asyncio.Task[None], asyncio.Event]]:
    """A poller that runs until the block ends, and is fenced then, as the group does it."""
    ending = asyncio.Event()
    poller = make_poller(source, kafka, ending, lost=lost, **settings)
    task = asyncio.create_task(poller.run())
    try:
        yield poller, task, ending
    finally:
        ending.set()
        await asyncio.wait([task], timeout=PATIENCE)
        kafka.fence()
        await task


@pytest.mark.parametrize("makes", [False, True])
@pytest.mark.parametrize("start", [NOW - 10_000 * SECOND, NOW - 30 * SECOND])
async def test_the_others_are_published_and_its_own_once_when_it_is_back(makes: bool, start: int) -> None:
    source, kafka = FakeSource(clock=NOW, makes=makes), HeldKafka()
    lost = kafka.kill(1)
    source.rows = rows_between(0, 12, start)
    async with polling(source, kafka) as (poller, _, _):
        await until(lambda: len(kafka.rows()) == 6)
        for first in (12, 18):
            source.rows += rows_between(first, first + 6, start + first * SECOND)
            await until(lambda first=first: len(kafka.rows()) == 6 + (first - 6) // 2)  # type: ignore[misc]
        assert sorted(kafka.row_ids()) == ids(source.rows[::2])
        assert poller.watermark is not None
        assert poller.watermark >= start + 20 * SECOND  # new rows are looked for there
        polls = source.polls
        await until(lambda: source.polls > polls + 2)
        kafka.mend(lost)
        await until(lambda: len(kafka.rows()) == 24)
        polls = source.polls
        await until(lambda: source.polls > polls + 2)
    assert sorted(kafka.row_ids()) == ids(source.rows)
    assert cursor_of(kafka).watermark == source.rows[-1].micros


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("crash", [False, True])
async def test_the_next_poller_publishes_what_was_held(written: bool, crash: bool) -> None:
    """``written``: the brokers have what was handed over, and nobody was told. ``crash``: no last cursor."""
    source, kafka = FakeSource(clock=NOW), HeldKafka()
    source.rows = rows_between(0, 4, NOW - 5000 * SECOND)
    await poll_once(source, kafka)
    lost = kafka.kill(1)
    # The window has moved on past all of them when it ends.
    source.rows += rows_between(4, 40, NOW - 4000 * SECOND)
    source.rows += rows_between(40, 50, NOW - 100 * SECOND)
    ending = asyncio.Event()
    task = asyncio.create_task(make_poller(source, kafka, ending).run())
    await until(lambda: len(kafka.rows()) == 4 + 23)
    if crash:
        task.cancel()
        await asyncio.wait([task])
    else:
        ending.set()
        await task  # though the partition is still away
        begin = poller_begins(cursor_of(kafka), Settings(poll_lookback_seconds=60))
        assert NOW - 4100 * SECOND < begin <= NOW - 4000 * SECOND + SECOND
    if written:
        await kafka.write_unconfirmed()
    kafka.fence()
    kafka.mend(lost)
    await poll_once(source, kafka)
    assert sorted(kafka.row_ids()) == ids(source.rows)


async def test_a_late_row_that_is_held_does_not_move_the_window_back() -> None:
    """What is before the window was published, and is not remembered."""
    source, kafka = FakeSource(clock=NOW), HeldKafka()
    source.rows = rows_between(0, 20, NOW - 70 * SECOND)
    await poll_once(source, kafka)
    source.rows += rows_between(20, 22, NOW + 40 * SECOND)
    source.clock = NOW + 41 * SECOND
    await poll_once(source, kafka)
    lost = kafka.kill(1)
    source.rows.append(row_to(1, NOW - 10 * SECOND, 101))
    async with polling(source, kafka):
        await until(lambda: bool(kafka.outages))
    kafka.mend(lost)
    await poll_once(source, kafka)
    assert sorted(kafka.row_ids()) == ids(source.rows)


async def test_no_more_is_read_than_can_be_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_rows, "MOST_ROWS", 10)
    source, kafka = FakeSource(clock=NOW, page_rows=4), HeldKafka()
    lost = kafka.kill(1)
    source.rows = rows_between(0, 60, NOW - 100 * SECOND)
    async with polling(source, kafka) as (poller, _, _):
        await until(lambda: poller._held)
        published = len(kafka.rows())
        assert 5 <= published <= 12
        polls = source.polls
        for _ in range(1000):
            await asyncio.sleep(0)
        assert (len(kafka.rows()), source.polls) == (published, polls)
        kafka.mend(lost)
        await until(lambda: len(kafka.rows()) == 60)
    assert sorted(kafka.row_ids()) == ids(source.rows)


async def test_a_held_row_that_is_refused_becomes_a_dead_letter_and_the_rest_are_published() -> None:
    source, kafka = FakeSource(clock=NOW), HeldKafka()
    lost = kafka.kill(1)
    texts = (f"{'a' * 9_000} {at}" for at in range(1000))
    large = next(text for text in texts if partition_of(text, PARTITIONS) == 1)
    source.rows = [*rows_between(0, 12, NOW - 100 * SECOND), source_row(NOW - 95 * SECOND, large, 100)]
    kafka.largest = 5_000
    async with polling(source, kafka):
        await until(lambda: len(kafka.rows()) == 6)
        kafka.mend(lost)
        await until(lambda: len(kafka.rows()) == 12 and bool(letters(kafka)))
    assert sorted(kafka.row_ids()) == ids(source.rows[:12])
    assert [one.header("row-id") for one in letters(kafka)] == [b"100"]


def letters(kafka: HeldKafka) -> list[Record]:
    return [one for where, log in kafka.logs.items() if where.topic == TOPICS.dead_letter for one in log]


async def test_a_held_row_dated_in_the_future_is_not_named_as_published() -> None:
    """Neither is one that is left in the table."""
    source, kafka = FakeSource(clock=NOW), HeldKafka()
    source.rows = [row_to(0, NOW, 2)]
    await poll_once(source, kafka)
    lost = kafka.kill(1)
    later = NOW + 10**6 * SECOND
    source.rows += [row_to(1, NOW + SECOND, 1), row_to(1, later, 3)]
    async with polling(source, kafka):
        await until(lambda: bool(kafka.outages))
        source.rows += [row_to(1, later, 5), row_to(0, later, 4)]
        await until(lambda: "4" in kafka.row_ids())
    kafka.mend(lost)
    await poll_once(source, kafka)
    await poll_once(source, kafka)
    assert sorted(kafka.row_ids()) == ["1", "2", "3", "4", "5"]


async def test_lost_rows_are_not_looked_for_while_rows_are_held() -> None:
    """They have no label and are not on the topic: they would be taken for lost."""

    class Looks(NoLosses):
        looks = 0

        async def step(self, window: object) -> None:
            self.looks += 1

    source, kafka, lost = FakeSource(clock=NOW), HeldKafka(), Looks()
    where = kafka.kill(1)
    source.rows = rows_between(0, 4, NOW - 20 * SECOND)
    async with polling(source, kafka, lost):
        await until(lambda: bool(kafka.outages) and len(kafka.rows()) == 2)
        polls, looks = source.polls, lost.looks
        await until(lambda: source.polls > polls + 3)
        assert lost.looks <= looks + 1
        kafka.mend(where)
        await until(lambda: lost.looks > looks + 2)


async def test_dead_letters_of_rows_without_a_time_keep_nothing_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("connectors.clickhouse.poller.poller._WHOLE_SECONDS", 0.0)
    source, kafka = FakeSource(clock=NOW), HeldKafka()
    lost = kafka.kill(1, TOPICS.dead_letter)
    source.without_time = [row_to(number, 0, number) for number in range(PARTITIONS)]
    async with polling(source, kafka, poll_lookback_seconds=0):
        await until(lambda: len(letters(kafka)) == 1)
        source.rows = rows_between(0, 4, NOW - 9 * SECOND)
        await until(lambda: len(kafka.rows()) == 4)
        kafka.mend(lost)
        await until(lambda: len(letters(kafka)) == 2)
        await until(lambda: len(cursor_of(kafka).timeless) == 2)
    await poll_once(source, kafka)
    assert {one.header("row-id") for one in letters(kafka)} == {b"0", b"1"}
    assert len(letters(kafka)) == 2


async def test_an_id_that_a_held_row_has_is_told_apart() -> None:
    source, kafka = FakeSource(clock=NOW), HeldKafka()
    lost = kafka.kill(1)
    source.rows = [row_to(1, NOW - 9 * SECOND, 1), row_to(0, NOW - 9 * SECOND, 2)]
    async with polling(source, kafka):
        await until(lambda: len(kafka.rows()) == 1)
        source.rows += [row_to(1, NOW - SECOND, 7), row_to(0, NOW, 7)]
        await until(lambda: len(kafka.rows()) == 2)
        kafka.mend(lost)
        await until(lambda: len(kafka.rows()) == 4)
    assert len(set(kafka.row_ids())) == 4
    assert Counter(row_id.partition("~")[0] for row_id in kafka.row_ids()) == Counter(["1", "2", "7", "7"])


@given(arrivals(), st.data())
def test_each_row_is_published_once_whatever_is_away(
    rounds: list[list[SourceRow]], data: st.DataObject
) -> None:
    """Partitions go and come back between polls, and pollers die or leave meanwhile."""

    async def scenario() -> None:
        source, kafka, ending = FakeSource(clock=NOW, makes=data.draw(st.booleans())), HeldKafka(), None
        task: asyncio.Task[None] | None = None
        for rows in rounds:
            source.rows += rows
            source.clock = max(
                source.clock + data.draw(st.sampled_from([0, 90])) * SECOND,
                max((row.micros for row in source.rows), default=NOW),
            )
            if task is None:
                kafka.dead.clear()  # one that begins must read all partitions
                ending = asyncio.Event()
                task = asyncio.create_task(make_poller(source, kafka, ending).run())
            for number in range(PARTITIONS):
                if data.draw(st.booleans()):
                    kafka.kill(number)
                else:
                    kafka.mend(Partition(TOPICS.rows, number))
            polls = source.polls
            while source.polls < polls + 3 and not task.done():
                await asyncio.sleep(0)
            end = data.draw(st.sampled_from(["", "", "leave", "crash"]))
            if end:
                await over(task, ending, crash=end == "crash")
                kafka.fence()
                task = None
        for where in list(kafka.dead):
            kafka.mend(where)
        if task is not None:
            polls = source.polls
            while source.polls < polls + 3 and not task.done():
                await asyncio.sleep(0)
            await over(task, ending)
        kafka.fence()
        await poll_once(source, kafka)
        found = Counter(record.header(CONTENT) for record in kafka.rows())
        assert found == Counter(mark_of(row, content_of(row)).header() for row in source.rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.ports.outages._LOOK_SECONDS", 0.0)
        patch.setattr("connectors.clickhouse.poller.poller._LOOK_BACK_SECONDS", 0.0)
        asyncio.run(scenario())


async def over(task: asyncio.Task[None], ending: asyncio.Event | None, *, crash: bool = False) -> None:
    assert ending is not None
    if crash:
        task.cancel()
    ending.set()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.done()
