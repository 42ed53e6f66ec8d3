"""The sink against a real engine: every message once in its table, whatever goes wrong between."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.sink import inserter as inserts
from streams.core.errors import LeaseLostError
from streams.core.records import Commit, Partition
from streams.core.settings import Settings
from tests.integration.connectors.clickhouse.engine import (
    BadLine,
    Database,
    each_once,
    ids,
    run_until_stored,
    sink_for,
)
from tests.unit.connectors.clickhouse.sink.fakes import (
    A0,
    D0,
    L0,
    L1,
    TOPICS,
    FakeInput,
    FakeKafka,
    FakeLease,
    augmented,
    labeled,
)
from tests.waiting import PATIENCE, eventually


@pytest.fixture
def line(address: tuple[str, int]) -> Iterator[BadLine]:
    bad_line = BadLine(address)
    yield bad_line
    bad_line.close()


def through(line: BadLine, settings: Settings) -> ClickHouseClient:
    return ClickHouseClient.from_settings(
        settings.model_copy(update={"clickhouse_port": line.address[1]}), answer_seconds=5.0
    )


# --- what is stored ---


async def test_each_topic_goes_to_its_table(database: Database) -> None:
    client, settings = database
    kafka = FakeKafka()
    for number in range(5):
        kafka.publish(labeled(number), TOPICS.labeled, number % 2)
        kafka.publish(augmented(number), TOPICS.augmented)
    kafka.publish(labeled(99, label_version="trial"), TOPICS.shadow)
    source = FakeInput(kafka, [L0, L1, A0, Partition(TOPICS.shadow, 0)], {})
    sink = sink_for(client, settings, kafka)
    await run_until_stored(sink, source)
    assert await ids(database) == each_once(range(5), range(99, 100))
    assert await ids(database, "logs_augmented") == each_once(range(5))
    assert sink.counts["stored:logs_labeled"] == 6
    assert sink.counts["stored:logs_augmented"] == 5
    assert {p: c.offset for p, c in source.commits.items()} == {
        L0: 3,
        L1: 2,
        A0: 5,
        Partition(TOPICS.shadow, 0): 1,
    }


async def test_rows_come_back_as_they_were_sent(database: Database) -> None:
    client, settings = database
    kafka = FakeKafka()
    messages = [
        augmented(1),
        augmented(2, text="x" * 20_000, confidence=None, alternatives=[], variants=[], rejected=[]),
        augmented(3, text="'; DROP TABLE logs;-- \\ \x00 \u202e😀", user_id=None, source_domain="дом"),
    ]
    for message in messages:
        kafka.publish(message, TOPICS.augmented)
    await run_until_stored(sink_for(client, settings, kafka), FakeInput(kafka, [A0], {}))
    names = list(type(messages[0]).model_fields)
    rows = await client.rows(
        f"SELECT {', '.join(names)} FROM {settings.result_database}.logs_augmented ORDER BY row_id"
    )
    for row, message in zip(rows, messages, strict=True):
        want = message.model_dump()
        got = dict(zip(names, row, strict=True))
        for name in ("created_at", "polled_at", "labeled_at", "augmented_at"):
            want[name] = want[name].replace(tzinfo=None)
            got[name] = got[name].replace(tzinfo=None)
        assert got == want


async def test_places_are_those_in_kafka(database: Database) -> None:
    client, settings = database
    kafka = FakeKafka()
    kafka.publish(labeled(1), TOPICS.labeled, 1)
    await run_until_stored(sink_for(client, settings, kafka), FakeInput(kafka, [L1], {}))
    rows = await client.rows(
        f"SELECT _topic, _topic_id, _partition, _offset FROM {settings.result_database}.logs_labeled"
    )
    assert rows == [(TOPICS.labeled, kafka.ids[TOPICS.labeled], 1, 0)]


async def test_light_traffic_is_stored_at_once(database: Database) -> None:
    """One row does not wait for a batch to fill; how long it waits is for the tests of the batcher."""
    client, settings = database
    kafka = FakeKafka()
    source = FakeInput(kafka, [L0], {})
    sink = sink_for(client, settings, kafka)
    task = asyncio.create_task(sink.run(source, source.committed, 1))
    kafka.publish(labeled(1), TOPICS.labeled)
    await eventually(lambda: source.commits, "the row is stored")
    task.cancel()
    await asyncio.wait([task])


# --- exactness ---


async def test_a_half_stored_insert_is_completed_and_not_doubled(database: Database) -> None:
    client, settings = database
    kafka = FakeKafka()
    records = [kafka.publish(labeled(number), TOPICS.labeled) for number in range(100)]
    first = sink_for(client, settings, kafka)
    await first.assigned({L0: Commit(-1)}, 1)
    # The highest offset is there, and every third one below; nothing was committed.
    await first.store([record for record in records if record.offset % 3 == 0])
    second = sink_for(client, settings, kafka)
    await run_until_stored(second, FakeInput(kafka, [L0], {}))
    assert await ids(database) == each_once(range(100))
    assert second.counts["already_stored"] == 34


async def test_a_group_rewound_by_hand_doubles_nothing(database: Database) -> None:
    client, settings = database
    kafka = FakeKafka()
    for number in range(50):
        kafka.publish(labeled(number), TOPICS.labeled)
    kafka.put(TOPICS.labeled, 0, b"garbage")
    source = FakeInput(kafka, [L0, D0], {})
    await run_until_stored(sink_for(client, settings, kafka), source)
    for number in range(51, 60):
        kafka.publish(labeled(number), TOPICS.labeled)
    rewound = FakeInput(kafka, [L0, D0], {L0: Commit(10), D0: Commit(0)})  # without metadata
    await run_until_stored(sink_for(client, settings, kafka), rewound)
    assert await ids(database) == each_once(range(50), range(51, 60))
    assert (await ids(database, "dead_letters")).total() == 1
    assert len(kafka.logs[D0]) == 1


async def test_a_topic_deleted_and_made_again_is_stored_from_its_beginning(database: Database) -> None:
    client, settings = database
    kafka = FakeKafka()
    for number in range(20):
        kafka.publish(labeled(number), TOPICS.labeled)
    source = FakeInput(kafka, [L0], {})
    await run_until_stored(sink_for(client, settings, kafka), source)
    kafka.recreate(TOPICS.labeled)
    for number in range(100, 130):  # more than the old one had: the old position is a valid one
        kafka.publish(labeled(number), TOPICS.labeled)
    await run_until_stored(sink_for(client, settings, kafka), FakeInput(kafka, [L0], source.commits))
    assert await ids(database) == each_once(range(20), range(100, 130))


@pytest.mark.parametrize("rows", [5, 40])
async def test_a_topic_made_again_under_a_running_sink(database: Database, rows: int) -> None:
    client, settings = database
    kafka = FakeKafka()
    for number in range(20):
        kafka.publish(labeled(number), TOPICS.labeled)
    source = FakeInput(kafka, [L0], {})
    sink = sink_for(client, settings, kafka)
    task = asyncio.create_task(sink.run(source, source.committed, 1))
    await eventually(lambda: not source.lag)
    kafka.recreate(TOPICS.labeled)
    for number in range(100, 100 + rows):
        kafka.publish(labeled(number), TOPICS.labeled)

    async def stored() -> bool:
        return source.commits[L0].offset == rows and len(await ids(database)) == 20 + rows

    await eventually(stored, "the new topic's rows are stored")
    task.cancel()
    await asyncio.wait([task])
    assert await ids(database) == each_once(range(20), range(100, 100 + rows))


@pytest.mark.parametrize("running", [False, True])
async def test_what_is_written_at_offsets_that_a_log_has_lost_is_stored(
    database: Database, running: bool
) -> None:
    """A leader was elected that lacks the last messages, which are stored already."""
    client, settings = database
    kafka, told = FakeKafka(), list[tuple[object, ...]]()

    async def report(*loss: object) -> None:
        told.append(loss)

    for number in range(20):
        kafka.publish(labeled(number), TOPICS.labeled)
    commits: dict[Partition, Commit] = {}
    task: asyncio.Task[None] | None = None

    async def store(end: int) -> None:
        nonlocal task
        if task is None:
            source = FakeInput(kafka, [L0], commits)
            sink = sink_for(client, settings, kafka, report=report)
            task = asyncio.create_task(sink.run(source, source.committed, 1))
        await eventually(lambda: commits.get(L0, Commit(-1)).offset == end)
        if not running:
            task.cancel()
            await asyncio.wait([task])
            task = None

    await store(20)
    kafka.cut(L0, 12)
    kafka.publish(labeled(200), TOPICS.labeled)
    await store(13)
    for number in range(201, 206):  # still at offsets of which the table holds others
        kafka.publish(labeled(number), TOPICS.labeled)
    await store(18)
    for number in range(206, 220):
        kafka.publish(labeled(number), TOPICS.labeled)
    await store(32)
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
    # 200 was there before anybody looked: its row is looked for, because of what is told.
    assert await ids(database) == each_once(range(20), range(201, 220))
    ((where, _, start, stop, _, _),) = told
    assert (where, start, stop) == (L0, 13, 20)


async def test_equal_offsets_of_other_partitions_and_topics_are_not_taken_for_stored(
    database: Database,
) -> None:
    client, settings = database
    kafka = FakeKafka()
    kafka.publish(labeled(0), TOPICS.labeled, 0)
    await run_until_stored(sink_for(client, settings, kafka), FakeInput(kafka, [L0], {}))
    kafka.publish(labeled(1), TOPICS.labeled, 1)
    kafka.publish(labeled(2), TOPICS.shadow, 0)
    await run_until_stored(
        sink_for(client, settings, kafka), FakeInput(kafka, [L1, Partition(TOPICS.shadow, 0)], {})
    )
    assert await ids(database) == each_once(range(3))


# --- a bad line ---


async def test_an_insert_cut_in_its_middle_is_tried_again(database: Database, line: BadLine) -> None:
    client, settings = database
    kafka = FakeKafka()
    for number in range(3000):
        kafka.publish(labeled(number, text=f"{number} " + "й" * 300), TOPICS.labeled)
    writer = through(line, settings)
    await writer.rows("SELECT 1")
    line.cut_request_after, line.times = 20_000, 2
    sink = sink_for(client, settings, kafka, writer=writer)
    await run_until_stored(sink, FakeInput(kafka, [L0], {}))
    await writer.close()
    assert line.cuts == 2
    assert await ids(database) == each_once(range(3000))


async def test_an_insert_whose_answer_is_lost_is_not_repeated(database: Database, line: BadLine) -> None:
    client, settings = database
    kafka = FakeKafka()
    for number in range(500):
        kafka.publish(labeled(number), TOPICS.labeled)
    writer = through(line, settings)
    await writer.rows("SELECT 1")
    line.cut_response, line.times = True, 1
    sink = sink_for(client, settings, kafka, writer=writer)
    await run_until_stored(sink, FakeInput(kafka, [L0], {}))
    await writer.close()
    assert line.cuts == 1
    assert await ids(database) == each_once(range(500))
    assert sink.counts["stored:logs_labeled"] == 500


async def test_the_sink_waits_while_clickhouse_is_away_and_says_so_once(
    database: Database, line: BadLine, capsys: pytest.CaptureFixture[str]
) -> None:
    _, settings = database
    kafka = FakeKafka()
    for number in range(10):
        kafka.publish(labeled(number), TOPICS.labeled)
    both = through(line, settings)
    await both.rows("SELECT 1")
    line.cut_request_after, line.times = 0, 8
    await run_until_stored(sink_for(both, settings, kafka), FakeInput(kafka, [L0], {}))
    await both.close()
    assert await ids(database) == each_once(range(10))
    said = [one for one in capsys.readouterr().out.splitlines() if "waiting for ClickHouse" in one]
    assert len(said) == 1
    assert "CLICKHOUSE_HOST" in said[0]


async def test_an_insert_of_a_former_owner_is_ended_before_its_offsets_are_read(
    database: Database, address: tuple[str, int]
) -> None:
    client, settings = database
    kafka = FakeKafka()
    record = kafka.publish(labeled(1), TOPICS.labeled)
    topic_id = await kafka.topic_id(TOPICS.labeled)
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    row = f"1\tlate\t{labeled(1).created_at:%Y-%m-%d %H:%M:%S.%f}\tv1\t{topic_id}\t0\t{record.offset}\n"
    statement = (
        f"INSERT INTO {settings.result_database}.logs_labeled "
        "(row_id, text, created_at, label_version, _topic_id, _partition, _offset) FORMAT TSV "
    )
    query_id = f"labelstream-sink/{settings.result_database}/esk-sink/1/former"
    connection.putrequest("POST", f"/?query_id={query_id}")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    connection.send(_chunk(statement.encode() + b"\n" + row.encode()))

    async def begun() -> bool:
        return bool(await client.command(f"KILL QUERY WHERE query_id = '{query_id}' TEST"))

    await eventually(begun, "the former owner's insert")
    await run_until_stored(
        sink_for(client, settings, kafka, lease=FakeLease(2)), FakeInput(kafka, [L0], {}), generation=2
    )
    connection.send(_chunk(b""))  # the rest of it comes at last
    assert connection.getresponse().status == 500
    connection.close()
    rows = await client.rows(f"SELECT row_id, text FROM {settings.result_database}.logs_labeled")
    assert rows == [("1", labeled(1).text)]


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def test_without_the_lease_nothing_is_written(database: Database) -> None:
    client, settings = database
    kafka = FakeKafka()
    lease = FakeLease()
    record = kafka.publish(labeled(1), TOPICS.labeled)
    bad = kafka.put(TOPICS.labeled, 0, b"garbage")
    sink = sink_for(client, settings, kafka, lease=lease)
    await sink.assigned({L0: Commit(-1)}, 1)
    lease.generation = 2
    for one in (record, bad):
        with pytest.raises(LeaseLostError):
            await sink.store([one])
    assert not await ids(database)
    assert D0 not in kafka.logs


async def test_a_sink_taken_off_in_mid_insert_leaves_nothing_behind_its_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, settings = database
    kafka = FakeKafka()
    records = [kafka.publish(labeled(number), TOPICS.labeled) for number in range(1000)]
    began, slow = threading.Event(), inserts._pieces

    def slowly(body: memoryview, ours: Callable[[], None]) -> Iterator[bytes]:
        began.set()
        for piece in slow(body, ours):
            time.sleep(0.5)
            yield piece

    monkeypatch.setattr(inserts, "_pieces", slowly)
    sink = sink_for(client, settings, kafka)
    await sink.assigned({L0: Commit(-1)}, 1)
    task = asyncio.create_task(sink.store(records))
    await asyncio.to_thread(began.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    at_once = await ids(database)
    await asyncio.sleep(1.0)
    assert await ids(database) == at_once
    monkeypatch.undo()
    await run_until_stored(
        sink_for(client, settings, kafka, lease=FakeLease(2)), FakeInput(kafka, [L0], {}), generation=2
    )
    assert await ids(database) == each_once(range(1000))


# --- rows that cannot be stored ---
