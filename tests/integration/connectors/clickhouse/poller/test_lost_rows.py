"""Rows whose messages retention took are found again, on the real engine: each once, and no other."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable
from datetime import timedelta

import pytest

from connectors.clickhouse.poller.lost import lost_rows as module
from connectors.clickhouse.poller.lost.lost_rows import LostRows
from connectors.clickhouse.poller.lost.search import Window
from connectors.clickhouse.poller.published_rows import Published
from connectors.clickhouse.poller.row_identity import CONTENT, Mark, content_of, mark_of
from connectors.clickhouse.source.table import SourceTable
from streams.core.codec import RECOVERED, encode, headers_of
from streams.core.errors import RetryableError, UnavailableError
from streams.core.losses import Loss, Losses
from streams.core.messages import Message, Row
from streams.core.records import Outgoing, Partition, Record
from streams.core.times import micros_of
from streams.core.topics import partition_of
from tests.integration.connectors.clickhouse.engine import Database, run_until_stored, sink_for
from tests.unit.connectors.clickhouse.poller.fakes import (
    PARTITIONS,
    TOPICS,
    FakeHeadroom,
    FakeKafka,
    HeldKafka,
)
from tests.unit.connectors.clickhouse.poller.fakes import FakeLease as Lease
from tests.unit.connectors.clickhouse.sink import fakes as sink_parts
from tests.unit.connectors.clickhouse.sink.fakes import START, augmented, labeled

SECOND = 1_000_000
ROWS = 60
EVERY = frozenset(range(ROWS))


def text_of(number: int) -> str:
    return f"не могу войти в личный кабинет, ошибка {number}"


def partition(number: int) -> int:
    return partition_of(text_of(number), PARTITIONS)


def micros(number: int) -> int:
    return micros_of(START + timedelta(seconds=number, microseconds=123456))


class Flight:
    """What is between the topics and the tables. ``behind``: a reader holds messages that are gone."""

    def __init__(self, kafka: FakeKafka) -> None:
        self.kafka = kafka
        self.records: list[Record] = []
        self.read: dict[str, int] = {}
        self.behind = False

    def put(self, topic: str, message: Message, content: bytes | None = None) -> None:
        headers = [*headers_of(message), *([(CONTENT, content)] if content else [])]
        where = partition(int(message.row_id)) if isinstance(message, Row) else 0
        self.records.append(Record(topic, where, 0, 0, None, encode(message), tuple(headers)))

    async def of(self, partitions: Collection[int]) -> AsyncIterator[Record]:
        if self.behind:
            raise UnavailableError("a reader is behind")
        for record in self.records:
            if record.partition in partitions:
                yield record
        for where, log in self.kafka.logs.items():
            if where.topic == TOPICS.rows and where.partition in partitions:
                for record in log[self.read.get(f"t-agents {TOPICS.rows}", 0) :]:
                    yield record

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        return dict.fromkeys(range(PARTITIONS), self.read.get(f"{group} {topic}", 0))


class Scene:
    def __init__(self, database: Database) -> None:
        self.client, self.settings = database
        self.settings = self.settings.model_copy(
            update={"topic_partitions": PARTITIONS, "poll_lookback_seconds": 5.0}
        )
        self.kafka, self.headroom = HeldKafka(), FakeHeadroom()
        self.flight, self.losses = Flight(self.kafka), Losses()
        self.counts: Counter[str] = Counter()
        self.window = self.window_from(ROWS + 100)

    async def make(self, numbers: Iterable[int] = EVERY) -> None:
        database = self.settings.clickhouse_database
        await self.client.command(
            f"CREATE TABLE {database}.logs (id UInt64, query_text String, created_at DateTime64(6, 'UTC'), "
            "user_id Nullable(String)) ENGINE = MergeTree ORDER BY created_at"
        )
        values = ", ".join(
            f"({n}, '{text_of(n)}', fromUnixTimestamp64Micro({micros(n)}), 'u1')" for n in numbers
        )
        await self.client.command(f"INSERT INTO {database}.logs VALUES {values}")

    async def store(self, labels: Iterable[int] = (), variants: Iterable[int] = ()) -> None:
        kafka = sink_parts.FakeKafka()
        for number in labels:
            kafka.publish(labeled(number), "esk.labeled")
        for number in variants:
            kafka.publish(augmented(number), "esk.augmented")
        sink = sink_for(self.client, self.settings, kafka)
        places = [Partition("esk.labeled", 0), Partition("esk.augmented", 0)]
        await run_until_stored(sink, sink_parts.FakeInput(kafka, places, {}))

    def lose(self, where: int, end: int, since: int | None, topic: str = TOPICS.rows) -> Loss:
        loss = Loss(
            group="agents", topic=topic, topic_id=str(uuid.UUID(int=1)), partition=where, start=0, end=end,
            since=since,
        )  # fmt: skip
        self.learn(loss.message(TOPICS.cursor))
        return loss

    def learn(self, message: Outgoing) -> None:
        self.losses.learn(Record(message.topic, 0, 0, 0, message.key, message.value))

    def window_from(self, begin: int, published: Iterable[Mark] = (), newest: int = ROWS + 200) -> Window:
        known = Published()
        known.add(published)
        return Window(micros(begin), micros(newest), None, known)

    def finder(self) -> LostRows:
        return LostRows(
            self.client,
            self.settings,
            TOPICS,
            self.losses,
            in_flight=self.flight,
            tail=self.kafka,
            sender=self.kafka,
            lease=Lease(),
            headroom=self.headroom,
            generation=1,
            counts=self.counts,
        )

    async def steps(self, finder: LostRows | None = None, count: int = 3) -> LostRows:
        finder = finder or self.finder()
        for _ in range(count):
            await finder.step(self.window)
        return finder

    def published(self) -> Counter[int]:
        return Counter(map(int, self.kafka.row_ids()))

    async def marks(self) -> dict[int, bytes]:
        """The mark of each row, as a poller makes it."""
        found = {}
        source = SourceTable(self.client, self.settings)
        async for page in source.pages(None):
            for row in page:
                found[int(row.id or b"")] = mark_of(row, content_of(row)).header()
        return found


@pytest.fixture
async def scene(database: Database, monkeypatch: pytest.MonkeyPatch) -> Scene:
    for pause in ("_LOOK_SECONDS", "_AWAY_SECONDS"):
        monkeypatch.setattr(module, pause, 0.0)
    monkeypatch.setattr(module, "_STEP_SECONDS", 3600.0)  # a slow machine takes as few steps as a fast one
    scene = Scene(database)
    await scene.make()
    return scene


def once(numbers: Iterable[int]) -> Counter[int]:
    return Counter(dict.fromkeys(numbers, 1))


async def test_what_has_no_label_and_is_not_on_its_way_is_published_again(scene: Scene) -> None:
    marks = await scene.marks()
    await scene.store(labels=range(10))
    for number in range(10, 20):
        scene.flight.put(TOPICS.rows, labeled(number), marks[number])  # read by nobody yet
    for number in range(20, 30):
        scene.flight.put(TOPICS.labeled, labeled(number))  # not stored yet
    for where in range(PARTITIONS):
        scene.lose(where, 100, None)
    await scene.steps()
    assert scene.published() == once(range(30, ROWS))
    found = scene.kafka.rows()
    assert {record.partition for record in found} == set(range(PARTITIONS))
    assert all(record.partition == partition(int(record.key or b"")) for record in found)
    assert len({record.header(RECOVERED) for record in found}) == 1
    assert all(record.header(CONTENT) is None for record in found)
    assert scene.counts["recovered"] == ROWS - 30


@pytest.mark.parametrize("inside", [False, True])
async def test_what_a_dead_partition_lost_waits_without_the_rest(scene: Scene, inside: bool) -> None:
    """``inside`` the window the poller goes on meanwhile, and what follows is read anew."""
    if inside:
        marks = [mark for text in (await scene.marks()).values() if (mark := Mark.parse(text))]
        scene.window = scene.window_from(0, marks)
    dead = scene.kafka.kill(1)
    for where in range(PARTITIONS):
        scene.lose(where, 100, None)
    finder = await scene.steps()
    assert scene.published() == once(n for n in EVERY if partition(n) == 0)
    scene.kafka.mend(dead)
    await scene.steps(finder)
    assert scene.published() == once(EVERY)
    assert scene.counts["recovered"] == ROWS


async def test_only_partitions_that_lost_something_are_looked_at(scene: Scene) -> None:
    scene.lose(1, 100, None)
    await scene.steps()
    assert scene.published() == once(n for n in EVERY if partition(n) == 1)


async def test_it_begins_before_the_last_row_that_was_read(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the window and by the pages, in which rows are published in any order."""
    monkeypatch.setattr(module, "_PAGES_ROWS", 8)
    for where in range(PARTITIONS):
        scene.lose(where, 100, micros(40))
    await scene.steps()
    # 40 less the window and a tenth of it and a second: row 33; and of those before it the last eight
    assert scene.published() == once(range(26, ROWS))


@pytest.mark.parametrize(("days", "found"), [(1, 0), (20_000, ROWS)])
async def test_what_the_tables_have_forgotten_is_not_labelled_again(
    scene: Scene, days: int, found: int
) -> None:
    scene.settings = scene.settings.model_copy(update={"result_retention_days": days})
    for where in range(PARTITIONS):
        scene.lose(where, 100, None)
    await scene.steps()
    assert scene.counts["recovered"] == found


async def test_of_dates_it_begins_a_day_earlier(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row has the time of its day's beginning: one of the day before may come after those of today."""
    monkeypatch.setattr(module, "_PAGES_ROWS", 0)
    database = scene.settings.clickhouse_database
    await scene.client.command(f"DROP TABLE {database}.logs SYNC")
    await scene.client.command(
        f"CREATE TABLE {database}.logs (id UInt64, query_text String, created_at Date, "
        "user_id Nullable(String)) ENGINE = MergeTree ORDER BY created_at"
    )
    first = START.replace(hour=0, minute=0, second=0, microsecond=0)
    days = [first + timedelta(days=number // 15) for number in range(ROWS)]
    values = ", ".join(f"({n}, '{text_of(n)}', '{day:%Y-%m-%d}', 'u1')" for n, day in enumerate(days))
    await scene.client.command(f"INSERT INTO {database}.logs VALUES {values}")
    scene.window = scene.window._replace(begin=micros_of(days[-1]) + SECOND, watermark=micros_of(days[-1]))
    for where in range(PARTITIONS):
        scene.lose(where, 100, micros_of(days[30]))
    await scene.steps()
    assert scene.published() == once(range(15, ROWS))


async def test_a_loss_is_closed_when_its_rows_are_stored(scene: Scene) -> None:
    loss = scene.lose(0, 100, None)
    finder = await scene.steps()
    end = len(scene.kafka.logs[Partition(TOPICS.rows, 0)])
    assert scene.losses.open == [loss]
    scene.flight.read[f"t-agents {TOPICS.rows}"] = end
    scene.kafka.logs[Partition(TOPICS.labeled, 0)] = list(scene.kafka.logs[Partition(TOPICS.rows, 0)])
    await scene.steps(finder)
    assert scene.losses.open == [loss]
    scene.flight.read[f"t-sink {TOPICS.labeled}"] = end
    await scene.steps(finder)
    assert scene.losses.open == []
    known = Losses()
    for record in scene.kafka.logs[Partition(TOPICS.cursor, 0)]:
        known.learn(record)
    scene.learn(loss.message(TOPICS.cursor))  # told once more by one who died before it committed
    await scene.steps()
    assert scene.losses.open == known.open == []
    assert sum(scene.published().values()) == end


async def test_one_that_dies_is_continued_and_doubles_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.clickhouse.source.table.PAGE_ROWS", 10)
    for where in range(PARTITIONS):
        scene.lose(where, 100, None)
    for number in range(8):
        scene.kafka.fail_after = 5 + number
        finder = scene.finder()
        try:
            await scene.steps(finder)
        except RetryableError:
            await finder.close()
    scene.kafka.fail_after = None
    await scene.steps()
    assert scene.published() == once(EVERY)


async def test_it_keeps_to_the_room_that_the_readers_leave(scene: Scene) -> None:
    scene.headroom.room = 7
    for where in range(PARTITIONS):
        scene.lose(where, 100, None)
    finder = await scene.steps()
    assert sum(scene.published().values()) == 7
    scene.headroom.room = 20
    await scene.steps(finder)
    assert sum(scene.published().values()) == 27
    scene.headroom.room = None
    await scene.steps(finder)
    assert scene.published() == once(EVERY)


@pytest.mark.parametrize("room", [None, 41])
async def test_in_its_window_the_poller_publishes_what_it_has_not_yet(
    scene: Scene, room: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.clickhouse.source.table.PAGE_ROWS", 5)
    marks = {number: Mark.parse(text) for number, text in (await scene.marks()).items()}
    known = [mark for number, mark in marks.items() if mark and number % 3 == 0]
    scene.window = scene.window_from(40, known)
    for where in range(PARTITIONS):
        scene.lose(where, 100, None)
    scene.headroom.room = room
    finder = await scene.steps()
    if room is not None:
        assert sum(scene.published().values()) == 41
        # The poller comes to two late rows in between.
        for number in (53, 55):
            scene.flight.put(TOPICS.rows, labeled(number), (mark := marks[number]) and mark.header())
            scene.window.published.add([mark] if mark else [])
        scene.headroom.room = None
        await scene.steps(finder)
    wanted = {n for n in EVERY if n < 40 or n % 3 == 0}
    assert scene.published() == once(wanted)


async def test_rows_that_the_poller_has_not_come_to_are_left_to_it(scene: Scene) -> None:
    scene.window = scene.window_from(20, newest=25)
    for where in range(PARTITIONS):
        scene.lose(where, 100, None)
    await scene.steps()
    assert scene.published() == once(range(20))


async def test_more_that_is_lost_begins_the_search_anew(scene: Scene) -> None:
    scene.lose(0, 100, micros(30))
    finder = await scene.steps()
    before = scene.published()
    scene.lose(0, 120, micros(30))
    scene.lose(1, 50, None)
    await scene.steps(finder)
    after = scene.published()
    assert after - before == once(n for n in EVERY if partition(n) == 1 or n not in before)
    assert set(after.values()) == {1}


async def test_nothing_is_looked_for_while_a_reader_holds_what_is_gone(scene: Scene) -> None:
    for where in range(PARTITIONS):
        scene.lose(where, 100, None)
    scene.flight.behind = True
    finder = await scene.steps()
    assert not scene.published()
    scene.flight.behind = False
    await scene.steps(finder)
    assert scene.published() == once(EVERY)


async def test_a_label_that_is_gone_is_made_again_without_the_variants_that_are_there(scene: Scene) -> None:
    await scene.store(labels=range(10), variants=range(15))
    for number in range(15, 20):
        scene.flight.put(TOPICS.augmented, augmented(number))
    for where in range(PARTITIONS):
        scene.lose(where, 100, None, topic=TOPICS.labeled)
    await scene.steps()
    assert scene.published() == once(range(10, ROWS))
    only = {
        int(record.key or b"") for record in scene.kafka.rows()
        if (record.header(RECOVERED) or b"").endswith(b"/label")
    }  # fmt: skip
    assert only == set(range(10, 20))


async def test_what_a_poller_cannot_learn_from_the_topic_it_learns_from_the_tables(scene: Scene) -> None:
    marks = {number: Mark.parse(text) for number, text in (await scene.marks()).items()}
    await scene.store(labels=range(20))
    scene.flight.put(TOPICS.labeled, labeled(20))
    published = Published()
    published.add([mark for number in (0, 30) if (mark := marks[number])])
    await scene.finder().remember(published, micros(5), micros(40), PARTITIONS)
    contents = {number: mark.content for number, mark in marks.items() if mark}
    known = published.counts([contents[number] for number in sorted(contents)]).tolist()
    assert [number for number, count in enumerate(known) if count] == [0, *range(5, 21), 30]
    assert set(known) == {0, 1}
