"""The poller: each row once, whatever the order in which rows become visible, and wherever it dies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.clickhouse.poller.backfill import poller_begins
from connectors.clickhouse.poller.cursor import Cursor, WindowStarts
from connectors.clickhouse.poller.row_identity import Mark, content_of, mark_of
from connectors.clickhouse.source.table import SourceRow
from streams.core.codec import CREATED_AT
from streams.core.errors import ConfigurationError, RetryableError
from streams.core.records import Partition
from streams.core.settings import Settings
from streams.privacy.erasure import ErasedId, ErasureList, digests_of
from tests.unit.connectors.clickhouse.poller.fakes import (
    TOPICS,
    FakeHeadroom,
    FakeKafka,
    FakeSource,
    NoLosses,
    make_poller,
    poll_once,
    source_row,
)
from tests.waiting import PATIENCE

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND


@st.composite
def arrivals(draw: st.DrawFn) -> list[list[SourceRow]]:
    """Rounds in which rows become visible: many in one second, late ones, equal ones, ids that fall."""
    rounds: list[list[SourceRow]] = []
    now = NOW
    number = draw(st.integers(0, 1000))
    for _ in range(draw(st.integers(1, 6))):
        now += draw(st.integers(0, 20)) * SECOND
        rows = []
        for _ in range(draw(st.integers(0, 8))):
            late = draw(st.integers(0, 59)) * SECOND
            number += draw(st.sampled_from([-7, 1, 1, 3]))
            id_ = draw(st.sampled_from([number, number, None]))
            rows.append(source_row(now - late, f"text {draw(st.integers(0, 3))}", id_))
        rounds.append(rows)
    return rounds


@given(arrivals(), st.data())
def test_each_row_is_published_once(rounds: list[list[SourceRow]], data: st.DataObject) -> None:
    """A new poller for each round: what it knows it has from the cursor and the topic alone."""

    async def scenario() -> None:
        source, kafka = FakeSource(clock=NOW), FakeKafka()
        for rows in rounds:
            # Rows of one poller may be made by the server and those of the next by hand.
            source.makes = data.draw(st.booleans())
            # Beyond a minute pages are confirmed while the next is made; nearer they are waited for.
            source.clock += data.draw(st.sampled_from([0, 0, 30, 90])) * SECOND
            source.rows += rows
            newest = max((row.micros for row in source.rows), default=NOW)
            source.clock = max(source.clock, newest)
            kafka.fail_after = data.draw(st.sampled_from([None, None, 0, 1, 4]))
            source.fail_after = data.draw(st.sampled_from([None, 0, 1, 2]))
            try:
                await poll_once(source, kafka)
            except RetryableError:
                kafka.fail_after = None
                await poll_once(source, kafka)
            kafka.fail_after = source.fail_after = None
        assert len(kafka.rows()) == len(source.rows)
        # An id that is given again after the window has forgotten it is told apart by its time.
        assert len({(record.key, record.header(CREATED_AT)) for record in kafka.rows()}) == len(source.rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("connectors.clickhouse.poller.poller._AWAY_SECONDS", 0.0)
        asyncio.run(scenario())


async def test_late_rows_are_found_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.clickhouse.poller.poller._LOOK_BACK_SECONDS", 0.0)
    source, kafka, ending = FakeSource(clock=NOW), FakeKafka(), asyncio.Event()
    source.rows = [source_row(NOW, "newest", 1)]
    task = asyncio.create_task(make_poller(source, kafka, ending).run())
    while len(kafka.rows()) < 1:
        await asyncio.sleep(0)
    wholes = source.wholes
    source.rows.append(source_row(NOW - 50 * SECOND, "late", 2))
    async with asyncio.timeout(PATIENCE):
        while len(kafka.rows()) < 2:
            await asyncio.sleep(0)
    assert source.wholes > wholes
    ending.set()
    await task


async def test_the_next_poller_reads_no_more_of_the_topic_than_the_window() -> None:
    source, kafka = FakeSource(clock=NOW), FakeKafka()
    source.rows = [source_row(NOW - (1000 - at) * SECOND, f"text {at}", at) for at in range(1000)]
    await poll_once(source, kafka)
    cursor = Cursor.decode(kafka.logs[Partition(TOPICS.cursor, 0)][-1].value)
    assert cursor is not None
    remembered = [
        record for record in kafka.rows() if record.offset >= cursor.starts[TOPICS.rows][record.partition]
    ]
    assert 59 <= len(remembered) <= 130
    await poll_once(source, kafka)
    assert len(kafka.rows()) == 1000


async def test_a_row_dated_in_the_future_does_not_hide_the_present() -> None:
    source, kafka = FakeSource(clock=NOW), FakeKafka()
    source.rows = [source_row(NOW + 10**15, "from the year 2058", 1)]
    await poll_once(source, kafka)
    source.clock = NOW + 3600 * SECOND
    source.rows.append(source_row(source.clock, "right now", 2))
    await poll_once(source, kafka)
    source.clock += 3600 * SECOND
    source.rows.append(source_row(source.clock, "later", 3))
    await poll_once(source, kafka)
    assert sorted(kafka.row_ids()) == ["1", "2", "3"]


async def test_rows_with_one_id_are_both_kept() -> None:
    source, kafka = FakeSource(clock=NOW), FakeKafka()
    source.rows = [source_row(NOW, "first", 7), source_row(NOW, "second", 7), source_row(NOW, "second", 7)]
    poller = await poll_once(source, kafka)
    assert poller.counts["same_id"] >= 1
    ids = kafka.row_ids()
    assert len(set(ids)) == 3
    assert all(row_id.split("~")[0] == "7" for row_id in ids)
    await poll_once(source, kafka)
    assert len(kafka.rows()) == 3


async def test_what_is_skipped_is_counted_with_its_reason() -> None:
    source, kafka = FakeSource(clock=NOW), FakeKafka()
    blank = source_row(NOW, "\u200b\u200b\u200b", 3)
    null = source_row(NOW, "", 4)._replace(text=None)
    source.rows = [source_row(NOW, "да", 1), source_row(NOW, "yes", 2), blank, null]
    poller = await poll_once(source, kafka)
    assert kafka.row_ids() == ["1"]  # 4 bytes of UTF-8
    assert poller.counts["skipped:too-short"] == 1
    assert poller.counts["skipped:empty"] == 1
    assert poller.counts["skipped:null-text"] == 1


async def test_a_text_too_large_for_the_topic_becomes_a_dead_letter_once() -> None:
    source, kafka = FakeSource(clock=NOW), FakeKafka()
    source.rows = [source_row(NOW, "я" * 600_000, 1), source_row(NOW, "fine", 2)]
    await poll_once(source, kafka)
    await poll_once(source, kafka)
    assert kafka.row_ids() == ["2"]
    letters = [r for where, log in kafka.logs.items() if where.topic == TOPICS.dead_letter for r in log]
    assert [letter.header("row-id") for letter in letters] == [b"1"]
    assert letters[0].header("reason") == b"too-large"
    assert b"db.table" in (letters[0].header("error") or b"")


@pytest.mark.parametrize("makes", [False, True])
async def test_a_row_that_the_topic_refuses_does_not_stop_its_neighbours(makes: bool) -> None:
    source, kafka = FakeSource(clock=NOW, makes=makes), FakeKafka()
    kafka.largest = 5_000  # the topic's limit is below what the poller takes for it
    source.rows = [
        source_row(NOW, "a" * 9_000, 1),
        source_row(NOW, "fine", 2),
        source_row(NOW, "fine too", 3),
    ]
    await poll_once(source, kafka)
    letters = [r for where, log in kafka.logs.items() if where.topic == TOPICS.dead_letter for r in log]
    assert [letter.header("row-id") for letter in letters] == [b"1"]
    assert sorted(kafka.row_ids()) == ["2", "3"]


async def test_rows_without_a_time_become_dead_letters_once() -> None:
    source, kafka = FakeSource(clock=NOW), FakeKafka()
    source.without_time = [source_row(0, "no time", 1), source_row(0, "no time", 1), source_row(0, "да", 3)]
    await poll_once(source, kafka)
    source.rows = [source_row(NOW, "with a time", 2)]
    await poll_once(source, kafka)
    letters = [r for where, log in kafka.logs.items() if where.topic == TOPICS.dead_letter for r in log]
    assert len(letters) == 3  # 4 bytes are enough
    assert {letter.header("reason") for letter in letters} == {b"no-time"}
    assert orjson.loads(letters[0].value or b"")["text"] == "no time"
    assert kafka.row_ids() == ["2"]


async def test_poll_start_now_leaves_the_past_alone_also_after_a_crash() -> None:
    source, kafka = FakeSource(clock=NOW), FakeKafka()
    source.rows = [source_row(NOW - SECOND, "past", 1)]
    await poll_once(source, kafka, poll_start="now")
    source.rows += [source_row(NOW, "newer", 2), source_row(NOW - SECOND, "late and before the start", 3)]
    source.clock = NOW + 5 * SECOND
    await poll_once(source, kafka, poll_start="now")
    assert kafka.row_ids() == ["2"]


async def test_a_row_of_a_day_may_come_until_the_day_is_over_and_a_little_later() -> None:
    """Its time says no more than the day, and a row of the next day may be read before it."""
    day = 86_400 * SECOND
    begin = NOW - NOW % day
    source, kafka = FakeSource(coarse=day), FakeKafka()
    texts = []
    for after, of in ((day // 2, 0), (day + SECOND, 1), (day + 2 * SECOND, 0), (day + day // 2, 1)):
        texts.append(f"text {after}")
        source.clock = begin + after
        source.rows.append(source_row(begin + of * day, texts[-1], len(texts)))
        await poll_once(source, kafka)
    assert sorted(orjson.loads(record.value or b"")["text"] for record in kafka.rows()) == sorted(texts)
    cursor = Cursor.decode(kafka.logs[Partition(TOPICS.cursor, 0)][-1].value)
    assert cursor is not None
    settings = Settings(poll_lookback_seconds=60)
    assert poller_begins(cursor, settings) < cursor.watermark - day - 60 * SECOND


async def test_why_a_table_cannot_be_read_is_told() -> None:
    source, kafka = FakeSource(clock=NOW), FakeKafka()
    source.refused = ConfigurationError("of the engine Null", setting="CLICKHOUSE_TABLE", fix="another")
    ending = asyncio.Event()
    poller = make_poller(source, kafka, ending)
    task = asyncio.create_task(poller.run())
    while not poller.problem:
        await asyncio.sleep(0)
    assert poller.problem == "of the engine Null"
    source.refused = None
    while poller.problem:
        await asyncio.sleep(0.01)
    ending.set()
    await task


async def test_a_rows_topic_made_anew_is_filled_again_from_the_window_on() -> None:
    source, kafka = FakeSource(clock=NOW), FakeKafka()
    source.rows = [source_row(NOW, f"text {at}", at) for at in range(5)]
    await poll_once(source, kafka)
    for where in [one for one in kafka.logs if one.topic == TOPICS.rows]:
        kafka.logs[where] = []
    del kafka.ids[TOPICS.rows]
    await poll_once(source, kafka)
    assert len(kafka.rows()) == 5


def test_the_window_starts_at_the_first_message_that_may_be_read_again() -> None:
    where = Partition("t.rows", 0)
    starts = WindowStarts({where: 0})
    for offset in range(5000):
        starts.add(where, offset, offset, newest=offset, now=10_000)
    begin = starts.at(4000, ahead_named=True)["t.rows"][0]
    assert 3980 <= begin <= 4000
    assert starts.at(99_999, ahead_named=True)["t.rows"][0] == 5000


def test_a_mark_survives_its_header() -> None:
    mark = Mark(-5, 2**64 - 1, 1)
    assert Mark.parse(mark.header()) == mark
    assert Mark.parse(b"nonsense") is None
    assert Mark.parse(None) is None


def test_a_cursor_survives_the_topic() -> None:
    cursor = Cursor(
        watermark=5, floor=None, starts={"rows": {3: 7}}, topic_ids={"rows": "x"}, ahead=["1/2/3"]
    )
    assert Cursor.decode(cursor.encode()) == cursor
    assert Cursor.decode(b"{}") is None
    assert Cursor.decode(orjson.dumps({"watermark": "soon"})) is None


# --- readers that are far behind ---


def cursor_of(kafka: FakeKafka) -> Cursor:
    found = Cursor.decode(kafka.logs[Partition(TOPICS.cursor, 0)][-1].value)
    assert found is not None
    return found


@pytest.mark.parametrize("makes", [False, True])
async def test_no_more_is_published_than_the_readers_have_room_for(makes: bool) -> None:
    rows = [source_row(NOW - (20 - n) * SECOND, f"text {n}", n) for n in range(20)]
    source, kafka = FakeSource(rows=rows, clock=NOW, makes=makes, page_rows=7), FakeKafka()
    headroom = FakeHeadroom(room=5)
    ending = asyncio.Event()
    poller = make_poller(source, kafka, ending, headroom)
    task = asyncio.create_task(poller.run())
    await until(lambda: headroom.held > 2)
    assert sorted(kafka.row_ids(), key=int) == [str(n) for n in range(5)]
    assert cursor_of(kafka).watermark == rows[4].micros
    headroom.room = 2
    await until(lambda: len(kafka.rows()) > 5 and headroom.room == 0)
    assert sorted(kafka.row_ids(), key=int) == [str(n) for n in range(7)]
    headroom.room = None
    await until(lambda: len(kafka.rows()) == 20)
    ending.set()
    await task
    assert len(set(kafka.row_ids())) == 20


async def test_rows_that_come_late_while_the_readers_are_behind_are_found() -> None:
    """What comes after the wait carries the window far on: it is read where it stood, first."""
    source = FakeSource(rows=[source_row(NOW, "first", 1), source_row(NOW + SECOND, "next", 2)], clock=NOW)
    kafka, headroom, ending = FakeKafka(), FakeHeadroom(room=1), asyncio.Event()
    poller = make_poller(source, kafka, ending, headroom)
    task = asyncio.create_task(poller.run())
    await until(lambda: headroom.held > 0)
    assert kafka.row_ids() == ["1"]
    source.clock = NOW + 3600 * SECOND
    source.rows += [source_row(NOW - 30 * SECOND, "late", 3)]
    source.rows += [source_row(NOW + n * 40 * SECOND, f"text {n}", 10 + n) for n in range(1, 90)]
    headroom.room = None
    await until(lambda: len(kafka.rows()) == len(source.rows))
    ending.set()
    await task
    assert Counter(kafka.row_ids()) == Counter(str(int(row.id or b"")) for row in source.rows)


async def test_one_that_dies_while_it_waits_leaves_the_rest_to_the_next() -> None:
    rows = [source_row(NOW - (9 - n) * SECOND, f"text {n}", n) for n in range(9)]
    source, kafka, headroom = FakeSource(rows=rows, clock=NOW), FakeKafka(), FakeHeadroom(room=4)
    task = asyncio.create_task(make_poller(source, kafka, asyncio.Event(), headroom).run())
    await until(lambda: headroom.held > 0)
    task.cancel()
    await asyncio.wait([task])
    source.rows.append(source_row(NOW - 7 * SECOND, "late", 100))
    await poll_once(source, kafka)
    assert Counter(kafka.row_ids()) == Counter(str(int(row.id or b"")) for row in source.rows)


@given(arrivals(), st.booleans(), st.integers(0, 7), st.integers(1, 7), st.integers(1, 9))
def test_each_row_is_published_once_however_little_room_there_is(
    rounds: list[list[SourceRow]], makes: bool, room: int, frees: int, page_rows: int
) -> None:
    async def scenario() -> None:
        source, kafka = FakeSource(clock=NOW, makes=makes, page_rows=page_rows), FakeKafka()
        for rows in rounds:
            source.rows += rows
            source.clock = max((row.micros for row in source.rows), default=NOW)
            await poll_once(source, kafka, FakeHeadroom(room, frees))
        assert len(kafka.rows()) == len(source.rows)
        assert len({(record.key, record.header(CREATED_AT)) for record in kafka.rows()}) == len(source.rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("connectors.clickhouse.poller.poller._HELD_SECONDS", 0.0)
        asyncio.run(scenario())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


# --- retention ---


async def test_rows_of_the_window_whose_messages_are_gone_are_asked_of_the_tables() -> None:
    """A table that nobody wrote to for longer than the topic keeps its messages."""
    rows = [source_row(NOW - n * SECOND, f"text {n}", n) for n in range(8)]
    source, kafka = FakeSource(rows=rows, clock=NOW), FakeKafka()
    await poll_once(source, kafka)
    untouched = NoLosses()
    await poll_once(source, kafka, lost=untouched)
    assert untouched.asked == []
    kafka.first = {where: len(log) for where, log in kafka.logs.items() if where.topic == TOPICS.rows}
    source.rows = [*rows, source_row(NOW - 3 * SECOND, "late", 100)]
    tables = NoLosses([mark_of(row, content_of(row)) for row in rows])
    await poll_once(source, kafka, lost=tables)
    assert tables.asked == [(NOW - 60 * SECOND, NOW + 1)]
    assert Counter(kafka.row_ids()) == Counter([*(str(n) for n in range(8)), "100"])


@pytest.mark.parametrize("makes", [True, False])
async def test_rows_of_an_erased_user_are_not_published_up_to_the_erasure(makes: bool) -> None:
    salt = "salt:" + "ab" * 16
    user, row = (digests_of(plain, [salt], None)[0] for plain in ("anna", "4"))
    listed = ErasureList(
        [ErasedId("user", user, salt, NOW - 10 * SECOND), ErasedId("row", row, salt, NOW - 5 * SECOND)],
        now=lambda: NOW / 1e6,
    )

    async def erased() -> ErasureList:
        return listed

    source, kafka = FakeSource(clock=NOW), FakeKafka()
    source.makes = makes
    source.rows = [
        source_row(NOW - (20 - at) * SECOND, f"some text {at}", at, user=("anna", "boris")[at % 2])
        for at in range(20)
    ]
    source.rows.append(source_row(NOW - 7 * SECOND, "some text of another", 40, user="vera"))
    source.rows.append(source_row(NOW - 8 * SECOND, "some text of the row", 4, user="vera"))
    poller = await poll_once(source, kafka, erased=erased)
    found = sorted(int(record.key or b"") for record in kafka.rows())
    assert found == [1, 3, 5, 7, 9, *range(11, 20), 40]
    assert poller.counts["skipped:erased"] == 7
    await poll_once(source, kafka, erased=erased)  # one that knows nothing of what was left out
    assert len(kafka.rows()) == len(found)
