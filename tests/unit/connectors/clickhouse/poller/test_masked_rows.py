"""Masked rows: nothing personal leaves, and none comes twice when the setting or the secret changes."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from connectors.clickhouse.poller.cursor import read_cursor
from connectors.clickhouse.poller.poller import Poller
from connectors.clickhouse.poller.row_identity import RowDigests, content_of
from connectors.clickhouse.source.table import SourceRow
from streams.core.codec import decode_dead_letter
from streams.core.environment import load
from streams.core.errors import ConfigurationError
from streams.core.records import Record
from streams.privacy.erasure import ErasedId, ErasureList, digests_of
from streams.privacy.pseudonyms import is_pseudonym
from tests.unit.connectors.clickhouse.poller.fakes import (
    TOPICS,
    FakeKafka,
    FakeSource,
    make_poller,
    poll_once,
    source_row,
)
from tests.unit.streams.privacy.fakes import ROTATED, SECRET, UNMASKABLE, make_door

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND
PHONE = "+7 916 123-45-67"
ROW = f"мой телефон {PHONE}"


async def polled(source: FakeSource, kafka: FakeKafka, privacy: str, secret: str | None = SECRET) -> Poller:
    door = make_door(secret or SECRET) if privacy == "mask" else None
    return await poll_once(source, kafka, door=door, privacy=privacy, privacy_secret=secret)


def everything(kafka: FakeKafka) -> bytes:
    """All that is on the topics: values, keys, headers."""
    return b"\n".join(
        part
        for log in kafka.logs.values()
        for record in log
        for part in (record.key or b"", record.value or b"", *(b"%b" % value for _, value in record.headers))
    )


def letters(kafka: FakeKafka) -> list[Record]:
    return [one for where, log in kafka.logs.items() if where.topic == TOPICS.dead_letter for one in log]


async def test_a_text_is_masked_and_its_user_is_a_pseudonym() -> None:
    source, kafka = FakeSource(clock=NOW), FakeKafka()
    source.rows = [source_row(NOW, ROW, 1, user="79161234567")]
    await polled(source, kafka, "mask")
    (record,) = kafka.rows()
    row: dict[str, Any] = orjson.loads(record.value or b"")
    assert row["text"] == "мой телефон [ТЕЛЕФОН]"
    assert is_pseudonym(row["user_id"])
    assert b"123-45-67" not in everything(kafka)
    assert b"79161234567" not in everything(kafka)


async def test_a_row_that_cannot_be_masked_is_a_dead_letter_that_names_its_place_only() -> None:
    source, kafka = FakeSource(clock=NOW), FakeKafka()
    source.rows = [source_row(NOW, f"{UNMASKABLE} {PHONE}", 1), source_row(NOW, "без данных", 2)]
    poller = await polled(source, kafka, "mask")
    assert kafka.row_ids() == ["2"]
    (record,) = letters(kafka)
    letter = decode_dead_letter(record.value, record.headers)
    assert (letter.step, letter.reason, letter.row_id, letter.payload) == ("mask", "cannot-mask", "1", b"")
    assert "id 1" in letter.error
    assert "2027-01-15T08:00:00" in letter.error
    assert UNMASKABLE.encode() not in everything(kafka)
    assert poller.counts["dead_letters:cannot-mask"] == 1
    await polled(source, kafka, "mask")
    assert len(letters(kafka)) == 1


async def test_a_row_without_a_time_leaves_no_bytes() -> None:
    source, kafka = FakeSource(clock=NOW), FakeKafka()
    source.without_time = [source_row(0, ROW, 7)]
    await polled(source, kafka, "mask")
    (record,) = letters(kafka)
    assert decode_dead_letter(record.value, record.headers).reason == "no-time"
    assert b"123-45-67" not in everything(kafka)
    await polled(source, kafka, "off")
    assert len(letters(kafka)) == 1


@pytest.mark.parametrize("at", [NOW - SECOND, NOW + 3600 * SECOND])
@pytest.mark.parametrize("id_", [1, None])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("off", None), ("mask", SECRET)),
        (("mask", SECRET), ("off", SECRET)),
        (("mask", SECRET), ("mask", ROTATED)),
    ],
)
async def test_no_row_comes_twice_when_the_setting_or_the_secret_changes(
    before: tuple[str, str | None], after: tuple[str, str | None], id_: int | None, at: int
) -> None:
    source, kafka = FakeSource(clock=NOW), FakeKafka()
    source.rows = [source_row(at, ROW, id_), source_row(at, ROW, id_)]  # equal ones
    await polled(source, kafka, *before)
    source.rows.append(source_row(at, ROW, id_))
    await polled(source, kafka, *after)
    assert len(kafka.rows()) == 3
    await polled(source, kafka, *after)
    assert len(kafka.rows()) == 3
    assert len({record.key for record in kafka.rows()}) == 3


async def test_the_ids_of_a_table_without_ids_need_the_secret() -> None:
    ids = []
    for privacy, secret in (("off", None), ("mask", SECRET), ("mask", ROTATED)):
        source, kafka = FakeSource(clock=NOW), FakeKafka()
        source.rows = [source_row(NOW, ROW)]
        await polled(source, kafka, privacy, secret)
        ids += kafka.row_ids()
    assert len(set(ids)) == 3


async def test_a_secret_that_is_missing_is_asked_for_before_rows_come_twice() -> None:
    source, kafka, ending = FakeSource(clock=NOW), FakeKafka(), asyncio.Event()
    source.rows = [source_row(NOW, ROW, 1)]
    await polled(source, kafka, "mask")
    poller = make_poller(source, kafka, ending)
    task = asyncio.create_task(poller.run())
    while not poller.problem:
        await asyncio.sleep(0)
    ending.set()
    await task
    assert "generation 1 of PRIVACY_SECRET" in poller.problem
    assert len(kafka.rows()) == 1


async def test_the_cursor_keeps_each_generation_that_rows_were_published_with() -> None:
    source, kafka = FakeSource(clock=NOW), FakeKafka()
    source.rows = [source_row(NOW, ROW, 1)]
    await polled(source, kafka, "mask")
    source.clock += 10**6 * SECOND  # beyond the window
    source.rows.append(source_row(source.clock, ROW, 2))
    for _ in range(2):
        await polled(source, kafka, "mask", ROTATED)
    cursor = await read_cursor(kafka, TOPICS.cursor, source.name)
    assert cursor is not None
    assert cursor.generations == [1, 2]
    only_new = load({"PRIVACY": "mask", "PRIVACY_SECRET": ROTATED.partition(",")[0]}, None)
    with pytest.raises(ConfigurationError, match="generation 1 of PRIVACY_SECRET"):
        RowDigests.of(only_new).require(cursor.generations, "rows")
    RowDigests.of(load({"PRIVACY_SECRET": ROTATED}, None)).require(cursor.generations, "rows")


async def test_masking_without_a_door_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="PRIVACY"):
        make_poller(
            FakeSource(clock=NOW), FakeKafka(), asyncio.Event(), privacy="mask", privacy_secret=SECRET
        )


def test_a_row_that_is_too_short_is_judged_by_its_plain_text() -> None:
    async def scenario() -> None:
        source, kafka = FakeSource(clock=NOW), FakeKafka()
        source.rows = [source_row(NOW, "да", 1), source_row(NOW, "79161234567 79031234567 звоните", 2)]
        door = make_door()
        poller = await poll_once(
            source, kafka, door=door, privacy="mask", privacy_secret=SECRET, min_text_length=36
        )
        assert kafka.row_ids() == ["2"]
        assert poller.counts["skipped:too-short"] == 1

    asyncio.run(scenario())


def test_source_rows_keep_their_order() -> None:
    """`SourceRow` is indexed by number where it is masked."""
    assert SourceRow._fields[3:] == ("text", "user", "session", "domain")


@pytest.mark.parametrize("secret", [SECRET, ROTATED])
async def test_what_was_erased_under_a_former_id_or_secret_is_not_published(secret: str) -> None:
    source, kafka = FakeSource(clock=NOW), FakeKafka()
    source.rows = [source_row(NOW - at * SECOND, f"some text {at}", user=f"u{at}") for at in range(3, 0, -1)]
    salt, plain = "salt:" + "ab" * 16, f"{content_of(source.rows[0]).hex()}:1"
    row, user = (digests_of(one, [salt], None)[0] for one in (plain, "u2"))
    listed = ErasureList(
        [ErasedId("row", row, salt, NOW), ErasedId("user", user, salt, NOW)], now=lambda: NOW / SECOND
    )

    async def erased() -> ErasureList:
        return listed

    await poll_once(
        source, kafka, door=make_door(secret), erased=erased, privacy="mask", privacy_secret=secret
    )
    assert [orjson.loads(record.value or b"")["text"] for record in kafka.rows()] == ["some text 1"]
