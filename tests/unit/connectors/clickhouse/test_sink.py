"""The sink against a real engine: every message once in its table, whatever goes wrong between."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sink_parts import (
    START,
    TOPICS,
    BadLine,
    Database,
    FakeInput,
    FakeKafka,
    FakeLease,
    augmented,
    labeled,
    run_until_stored,
    sink_for,
)

from connectors.clickhouse import insert as inserts
from connectors.clickhouse.client import ClickHouseClient
from streams.codec import encode, encode_dead_letter
from streams.errors import LeaseLostError
from streams.messages import DeadLetter
from streams.ports import Commit, Partition
from streams.settings import Settings

L0, L1 = Partition(TOPICS.labeled, 0), Partition(TOPICS.labeled, 1)
A0, D0 = Partition(TOPICS.augmented, 0), Partition(TOPICS.dead_letter, 0)


@pytest.fixture
def line(address: tuple[str, int]) -> Iterator[BadLine]:
    bad_line = BadLine(address)
    yield bad_line
    bad_line.close()


def through(line: BadLine, settings: Settings) -> ClickHouseClient:
    return ClickHouseClient.from_settings(
        settings.model_copy(update={"clickhouse_port": line.address[1]}), answer_seconds=5.0
    )


async def ids(database: Database, table: str = "logs_labeled") -> list[str]:
    """Row ids, with repetitions."""
    client, settings = database
    rows = await client.rows(f"SELECT row_id FROM {settings.result_database}.{table}")
    return sorted((row[0] for row in rows), key=lambda row_id: (len(row_id), row_id))


def numbers(*spans: range) -> list[str]:
    return [str(number) for span in spans for number in span]


async def letters(database: Database) -> list[dict[str, Any]]:
    client, settings = database
    names = [*DeadLetter.model_fields]
    columns = await client.columns(
        f"SELECT {', '.join(f'`{name}`' for name in names)} FROM {settings.result_database}.dead_letters "
        "ORDER BY `topic`, `partition`, `offset`, _offset",
        strings_as_bytes=True,
    )
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)] if columns else []


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
    assert await ids(database) == numbers(range(5), range(99, 100))
    assert await ids(database, "logs_augmented") == numbers(range(5))
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


async def test_light_traffic_is_stored_within_a_second(database: Database) -> None:
    client, settings = database
    kafka = FakeKafka()
    source = FakeInput(kafka, [L0], {})
    sink = sink_for(client, settings, kafka)
    task = asyncio.create_task(sink.run(source, source.committed, 1))
    await asyncio.sleep(0.5)
    started = time.monotonic()
    kafka.publish(labeled(1), TOPICS.labeled)
    while not source.commits and time.monotonic() - started < 5:
        await asyncio.sleep(0.01)
    assert source.commits
    assert time.monotonic() - started < 2.5  # 0.2 s and an insert; the rest is for a busy machine
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
    assert await ids(database) == numbers(range(100))
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
    assert await ids(database) == numbers(range(50), range(51, 60))
    assert len(await letters(database)) == 1
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
    assert await ids(database) == numbers(range(20), range(100, 130))


@pytest.mark.parametrize("rows", [5, 40])
async def test_a_topic_made_again_under_a_running_sink(database: Database, rows: int) -> None:
    client, settings = database
    kafka = FakeKafka()
    for number in range(20):
        kafka.publish(labeled(number), TOPICS.labeled)
    source = FakeInput(kafka, [L0], {})
    sink = sink_for(client, settings, kafka)
    task = asyncio.create_task(sink.run(source, source.committed, 1))
    while source.lag:
        await asyncio.sleep(0.02)
    kafka.recreate(TOPICS.labeled)
    for number in range(100, 100 + rows):
        kafka.publish(labeled(number), TOPICS.labeled)
    for _ in range(300):
        if source.commits[L0].offset == rows and len(await ids(database)) == 20 + rows:
            break
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait([task])
    assert await ids(database) == numbers(range(20), range(100, 100 + rows))


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
    assert await ids(database) == numbers(range(3))


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
    assert await ids(database) == numbers(range(3000))


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
    assert await ids(database) == numbers(range(500))
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
    assert await ids(database) == numbers(range(10))
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
    connection = http.client.HTTPConnection(*address, timeout=20)
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
    answers: list[int] = []

    def finish() -> None:
        time.sleep(1.5)
        connection.send(_chunk(b""))
        answers.append(connection.getresponse().status)
        connection.close()

    late = threading.Thread(target=finish)
    while not await client.command(f"KILL QUERY WHERE query_id = '{query_id}' TEST"):
        await asyncio.sleep(0.02)
    late.start()
    await run_until_stored(
        sink_for(client, settings, kafka, lease=FakeLease(2)), FakeInput(kafka, [L0], {}), generation=2
    )
    late.join()
    assert answers == [500]
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
    assert await ids(database) == []
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
    assert await ids(database) == numbers(range(1000))


# --- rows that cannot be stored ---


async def test_rows_that_the_table_refuses_are_found_and_the_rest_is_stored(database: Database) -> None:
    client, settings = database
    await client.command(
        f"ALTER TABLE {settings.result_database}.logs_labeled ADD CONSTRAINT c CHECK label != 'poison'"
    )
    kafka = FakeKafka()
    poisoned = {7, 8, 611}
    for number in range(700):
        label = "poison" if number in poisoned else "login"
        kafka.publish(labeled(number, label=label), TOPICS.labeled, number % 2)
    source = FakeInput(kafka, [L0, L1, D0, Partition(TOPICS.dead_letter, 1)], {})
    sink = sink_for(client, settings, kafka)
    await run_until_stored(sink, source)
    await run_until_stored(sink, source)  # what it has sent itself
    assert await ids(database) == [one for one in numbers(range(700)) if int(one) not in poisoned]
    found = await letters(database)
    assert [(one["row_id"], one["step"], one["reason"]) for one in found] == [
        (b"8", b"store", b"refused-by-table"),
        (b"7", b"store", b"refused-by-table"),
        (b"611", b"store", b"refused-by-table"),
    ]
    assert [(one["topic"], one["partition"], one["offset"]) for one in found] == [
        (b"esk.labeled", 0, 4),
        (b"esk.labeled", 1, 3),
        (b"esk.labeled", 1, 305),
    ]
    assert found[0]["payload"] == encode(labeled(8, label="poison"))
    assert sink.counts["dead_letters:refused-by-table"] == 3


@pytest.mark.parametrize("value", [None, b"", b"\xff\x00", b"{}", encode(labeled(5))[:-5]])
async def test_what_is_no_message_becomes_a_dead_letter_with_its_bytes(
    database: Database, value: bytes | None
) -> None:
    client, settings = database
    kafka = FakeKafka()
    kafka.publish(labeled(1), TOPICS.labeled)
    kafka.put(TOPICS.labeled, 0, value)
    kafka.publish(labeled(2), TOPICS.labeled)
    source = FakeInput(kafka, [L0, D0], {})
    sink = sink_for(client, settings, kafka)
    await run_until_stored(sink, source)
    assert await ids(database) == ["1", "2"]
    (letter,) = await letters(database)
    assert letter["payload"] == (value or b"")
    assert (letter["step"], letter["topic"], letter["partition"], letter["offset"]) == (
        b"store",
        b"esk.labeled",
        0,
        1,
    )


async def test_a_dead_letter_sent_before_a_crash_is_not_sent_again(database: Database) -> None:
    client, settings = database
    kafka = FakeKafka()
    kafka.put(TOPICS.dead_letter, 0, b"someone else's", [("step", b"label")])
    records = [kafka.put(TOPICS.labeled, 0, b"garbage"), kafka.publish(labeled(1), TOPICS.labeled)]
    crashed = sink_for(client, settings, kafka)
    await crashed.assigned({L0: Commit(-1)}, 1)
    await crashed.store(records)  # and never commits
    again = sink_for(client, settings, kafka)
    await run_until_stored(again, FakeInput(kafka, [L0], {}))
    assert len(kafka.logs[D0]) == 2
    assert again.counts["dead_letters_known"] == 1


async def test_the_floor_in_the_commit_keeps_the_tail_short_and_never_too_short(database: Database) -> None:
    client, settings = database
    kafka = FakeKafka()
    records = [kafka.put(TOPICS.labeled, 0, f"garbage {number}".encode()) for number in range(10)]
    first = sink_for(client, settings, kafka)
    await first.assigned({L0: Commit(-1)}, 1)
    committed = await first.store(records[:4])
    await first.store(records[4:8])  # sent, not committed
    second = sink_for(client, settings, kafka)
    await second.assigned(committed, 1)
    assert kafka.reads[-1] == (0, 4)
    committed = await second.store(records[4:6])  # and crashes again: the letters of 6 and 7 are still needed
    third = sink_for(client, settings, kafka)
    await third.assigned(committed, 1)
    committed = await third.store(records[6:])
    assert [record.value for record in kafka.logs[D0]] == [record.value for record in records]
    fourth = sink_for(client, settings, kafka)
    reads = len(kafka.reads)
    await fourth.assigned(committed, 1)
    assert len(kafka.reads) == reads  # nothing above the floor


async def test_equal_garbage_in_a_topic_made_again_is_another_dead_letter(database: Database) -> None:
    client, settings = database
    kafka = FakeKafka()
    for _ in range(2):
        kafka.put(TOPICS.labeled, 0, b"garbage")
        await run_until_stored(sink_for(client, settings, kafka), FakeInput(kafka, [L0], {}))
        kafka.recreate(TOPICS.labeled)
    assert len(kafka.logs[D0]) == 2


async def test_one_too_large_for_the_dead_letter_topic_is_kept_by_reference(database: Database) -> None:
    client, settings = database
    kafka = FakeKafka(largest=1000)
    kafka.put(TOPICS.labeled, 0, b"x" * 2000)
    await run_until_stored(sink_for(client, settings, kafka), FakeInput(kafka, [L0, D0], {}))
    (letter,) = await letters(database)
    assert (letter["topic"], letter["partition"], letter["offset"]) == (b"esk.labeled", 0, 0)
    assert letter["payload"] == b""


async def test_dead_letters_of_all_steps_are_stored_byte_by_byte(database: Database) -> None:
    client, settings = database
    kafka = FakeKafka()
    letter = DeadLetter(
        row_id="7",
        step="label",
        reason="invalid-answer",
        error="нет",
        attempts=2,
        failed_at=START,
        topic="esk.rows",
        partition=3,
        offset=5,
        payload=b"\xff\x00\x80",
    )
    kafka.put(TOPICS.dead_letter, 0, *encode_dead_letter(letter))
    kafka.put(TOPICS.dead_letter, 0, b"\xff\x00", [("step", b"\xff")])
    kafka.put(TOPICS.dead_letter, 0, None)
    source = FakeInput(kafka, [D0], {})
    await run_until_stored(sink_for(client, settings, kafka), source)
    stored = await letters(database)
    assert len(kafka.logs[D0]) == 3  # no dead letters of dead letters
    assert [one["payload"] for one in stored] == [b"\xff\x00", b"", b"\xff\x00\x80"]
    assert [(one["topic"], one["offset"]) for one in stored] == [
        (b"esk.dead-letter", 1),
        (b"esk.dead-letter", 2),
        (b"esk.rows", 5),
    ]
    assert {one["reason"] for one in stored[:2]} == {b"undecodable"}
    assert (stored[2]["row_id"], stored[2]["error"], stored[2]["attempts"]) == (b"7", "нет".encode(), 2)


async def test_a_dead_letter_that_the_table_refuses_does_not_go_round_for_ever(database: Database) -> None:
    client, settings = database
    table = f"{settings.result_database}.dead_letters"
    await client.command(f"ALTER TABLE {table} ADD CONSTRAINT short CHECK length(row_id) < 5")
    await client.command(f"ALTER TABLE {table} ADD CONSTRAINT clean CHECK payload != 'never'")
    kafka = FakeKafka()
    for row_id, payload in (("1", b"a"), ("too long", b"b"), ("2", b"never")):
        letter = DeadLetter(
            row_id=row_id,
            step="label",
            reason="r",
            failed_at=START,
            topic="esk.rows",
            offset=1,
            payload=payload,
        )
        kafka.put(TOPICS.dead_letter, 0, *encode_dead_letter(letter))
    sink = sink_for(client, settings, kafka)
    source = FakeInput(kafka, [D0], {})
    await run_until_stored(sink, source)
    assert [(one["payload"], one["reason"]) for one in await letters(database)] == [
        (b"b", b"unstorable"),
        (b"a", b"r"),
    ]
    assert sink.counts["unstorable"] == 1
    assert source.commits[D0].offset == 3
    assert len(kafka.logs[D0]) == 3


async def test_a_missing_table_pauses_and_gives_nothing_up(database: Database) -> None:
    client, settings = database
    table = f"{settings.result_database}.logs_labeled"
    kafka = FakeKafka()
    kafka.publish(labeled(1), TOPICS.labeled)
    await client.command(f"RENAME TABLE {table} TO {table}_away")
    sink = sink_for(client, settings, kafka)
    source = FakeInput(kafka, [L0], {})
    task = asyncio.create_task(run_until_stored(sink, source))
    await asyncio.sleep(1.0)
    assert not source.commits
    await client.command(f"RENAME TABLE {table}_away TO {table}")
    await task
    assert await ids(database) == ["1"]
    assert sink.counts["dead_letters"] == 0
