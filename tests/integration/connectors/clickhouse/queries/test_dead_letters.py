"""Dead letters as the command line lists them, from a real engine, stored by the sink."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from connectors.clickhouse.queries import open_dead_letters
from connectors.clickhouse.queries.dead_letters import count_letters, list_letters
from connectors.clickhouse.queries.open_dead_letters import open_letters
from streams.core.codec import encode_dead_letter
from streams.core.errors import ConfigurationError
from streams.core.messages import DeadLetter
from streams.core.records import Partition
from tests.integration.connectors.clickhouse.engine import (
    Database,
    fresh_database,
    run_until_stored,
    sink_for,
)
from tests.unit.connectors.clickhouse.sink.fakes import START, TOPICS, FakeInput, FakeKafka

LETTERS = [
    DeadLetter(
        row_id=f"r{number}",
        step=("label", "augment", "store")[number % 3],
        reason="invalid-answer" if number % 2 else "o'brien; --",
        error="нет такой метки: «да»\n",
        attempts=number,
        failed_at=START + timedelta(hours=number, microseconds=123457),
        topic="esk.rows",
        partition=number % 4,
        offset=10**12 + number,
        payload=bytes(range(256)),
    )
    for number in range(12)
]


@pytest.fixture
async def database(address: tuple[str, int]) -> AsyncIterator[Database]:
    async with fresh_database(address) as found:
        client, settings = found
        kafka = FakeKafka()
        for letter in LETTERS:
            kafka.put(TOPICS.dead_letter, 0, *encode_dead_letter(letter))
        await run_until_stored(
            sink_for(client, settings, kafka), FakeInput(kafka, [Partition(TOPICS.dead_letter, 0)], {})
        )
        yield found


async def test_lists_whole_letters_newest_first(database: Database) -> None:
    assert await list_letters(*database) == LETTERS[::-1]


async def test_the_limit_takes_the_newest(database: Database) -> None:
    assert await list_letters(*database, limit=2) == LETTERS[:-3:-1]


async def test_filters_by_reason_step_and_time(database: Database) -> None:
    found = await list_letters(*database, reason="invalid-answer")
    assert [one.row_id for one in found] == ["r11", "r9", "r7", "r5", "r3", "r1"]
    found = await list_letters(*database, reason="o'brien; --", step="label")
    assert [one.row_id for one in found] == ["r6", "r0"]
    assert await list_letters(*database, step="lab") == []
    moment = LETTERS[10].failed_at
    assert [one.row_id for one in await list_letters(*database, since=moment)] == ["r11", "r10"]
    later = moment + timedelta(microseconds=1)
    assert [one.row_id for one in await list_letters(*database, since=later)] == ["r11"]


async def test_one_that_was_stored_twice_is_listed_once(database: Database) -> None:
    client, settings = database
    table = f"{settings.result_database}.dead_letters"
    await client.command(f"SYSTEM STOP MERGES {table}")
    await client.command(f"INSERT INTO {table} SELECT * FROM {table}")
    assert await client.rows(f"SELECT count() FROM {table}") == [(24,)]
    assert await list_letters(*database) == LETTERS[::-1]
    assert sum((await count_letters(*database)).values()) == 12


async def test_headers_that_are_no_utf8_are_still_listed(database: Database) -> None:
    client, settings = database
    await client.command(
        f"INSERT INTO {settings.result_database}.dead_letters (row_id, step, reason, failed_at, _topic_id) "
        f"SELECT unhex('FF'), unhex('FE'), 'r', now64(6), '{uuid.uuid4()}'"
    )
    (found,) = await list_letters(*database, reason="r")
    assert (found.row_id, found.step) == ("\ufffd", "\ufffd")


async def test_counts_by_step_and_reason(database: Database) -> None:
    counts = await count_letters(*database, reason="invalid-answer")
    assert counts == {(step, "invalid-answer"): 2 for step in ("augment", "label", "store")}


async def test_what_cannot_be_asked_is_refused(database: Database) -> None:
    with pytest.raises(ConfigurationError, match="limit"):
        await list_letters(*database, limit=0)
    with pytest.raises(ConfigurationError, match="zone"):
        await list_letters(*database, since=datetime(2026, 1, 1))
    client, settings = database
    elsewhere = settings.model_copy(update={"clickhouse_result_database": "nowhere"})
    with pytest.raises(ConfigurationError):
        await list_letters(client, elsewhere)


async def test_open_letters_come_oldest_first_some_at_a_time(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_dead_letters, "_PAGE_LETTERS", 3)
    monkeypatch.setattr(open_dead_letters, "_PAGE_BYTES", 1_000)
    wanted = LETTERS[:9]
    large = LETTERS[10].model_copy(update={"row_id": "large", "payload": b"x" * 5_000})
    nameless = [LETTERS[11].model_copy(update={"row_id": "", "offset": offset}) for offset in (1, 2)]
    # The same row was given up before; the same message without a name was.
    older = [wanted[4], nameless[0]]
    older = [
        one.model_copy(update={"failed_at": START + timedelta(minutes=at)}) for at, one in enumerate(older)
    ]
    async with fresh_database(address) as (client, settings):
        kafka = FakeKafka()
        for letter in [*older, *wanted, large, *nameless]:
            kafka.put(TOPICS.dead_letter, 0, *encode_dead_letter(letter))
        await run_until_stored(
            sink_for(client, settings, kafka), FakeInput(kafka, [Partition(TOPICS.dead_letter, 0)], {})
        )
        # Row 3, given up before it had a label, has one since; that of row 0 is older than its letter.
        for row_id, at in (("r3", wanted[3].failed_at), ("r0", START - timedelta(hours=1))):
            await client.insert(
                "logs_labeled", ["row_id", "labeled_at"], [[row_id], [at]], database=settings.result_database
            )
        pages = [page async for page in open_letters(client, settings)]
        found = [one.letter for page in pages for one in page]
        still_open = [one for one in wanted if one.row_id != "r3"]
        assert found[: len(still_open)] == still_open
        assert found[len(still_open)] == large
        assert sorted(found[-2:], key=lambda one: one.offset) == nameless
        assert max(map(len, pages)) == 3
        assert [large] in [[one.letter for one in page] for page in pages]
        places = {(one.partition, one.offset) for page in pages for one in page}
        assert len(places) == len(found)
        some = [page async for page in open_letters(client, settings, limit=2)]
        assert [one.letter.row_id for page in some for one in page] == ["", ""]
        one = [page async for page in open_letters(client, settings, at=large.failed_at)]
        assert [[one.letter for one in page] for page in one] == [[large]]
        assert [page async for page in open_letters(client, settings, reason="none")] == []
