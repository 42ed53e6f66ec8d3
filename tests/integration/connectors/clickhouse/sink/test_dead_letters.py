"""The sink and what cannot be stored: a dead letter with its bytes, once, and the rest is stored."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.core.codec import encode, encode_dead_letter
from streams.core.messages import DeadLetter
from streams.core.records import Commit, Partition
from tests.integration.connectors.clickhouse.engine import (
    Database,
    each_once,
    ids,
    run_until_stored,
    sink_for,
)
from tests.unit.connectors.clickhouse.sink.fakes import (
    D0,
    L0,
    L1,
    START,
    TOPICS,
    FakeInput,
    FakeKafka,
    labeled,
)
from tests.waiting import eventually


async def letters(database: Database) -> list[dict[str, Any]]:
    client, settings = database
    names = [*DeadLetter.model_fields]
    columns = await client.columns(
        f"SELECT {', '.join(f'`{name}`' for name in names)} FROM {settings.result_database}.dead_letters "
        "ORDER BY `topic`, `partition`, `offset`, _offset",
        strings_as_bytes=True,
    )
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)] if columns else []


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
    assert await ids(database) == each_once(set(range(700)) - poisoned)
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
    assert await ids(database) == each_once([1, 2])
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
    assert await ids(database) == each_once([1])
    assert sink.counts["dead_letters"] == 0


@pytest.mark.parametrize("crash", [False, True])
async def test_letters_that_cannot_be_written_hold_back_only_the_commits_of_their_partition(
    database: Database, crash: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.clickhouse.sink.batcher.IDLE_SECONDS", 0.1)
    client, settings = database
    kafka = FakeKafka()
    d1 = Partition(TOPICS.dead_letter, 1)
    kafka.silent = {d1}
    numbers = iter(range(100))

    def publish(where: Partition) -> None:
        kafka.publish(labeled(next(numbers)), *where)

    for where in (L0, L1):
        publish(where)
        kafka.put(*where, f"garbage of {where.partition}".encode())
        publish(where)
    source = FakeInput(kafka, [L0, L1], {})
    sink = sink_for(client, settings, kafka)
    running = asyncio.create_task(sink.run(source, source.committed, 1))

    async def committed(*offsets: int) -> None:
        def reached() -> bool:
            assert not running.done()
            return [source.commits[one].offset if one in source.commits else 0 for one in (L0, L1)] == [
                *offsets
            ]

        await eventually(reached, f"commits of {offsets}", measure=lambda: dict(source.commits))

    await committed(3, 1)
    for where in (L0, L1):
        publish(where)
        kafka.put(*where, b"more garbage")
    await committed(5, 1)
    assert await ids(database) == each_once(range(6))
    if crash:
        running.cancel()
        await asyncio.wait([running])
        kafka.mend()
        await run_until_stored(sink_for(client, settings, kafka), FakeInput(kafka, [L0, L1], source.commits))
    else:
        kafka.mend()
        await committed(5, 5)
        running.cancel()
        await asyncio.wait([running])
    assert [record.value for record in kafka.logs[d1]] == [b"garbage of 1", b"more garbage"]
    assert [record.value for record in kafka.logs[D0]] == [b"garbage of 0", b"more garbage"]
    assert await ids(database) == each_once(range(6))
