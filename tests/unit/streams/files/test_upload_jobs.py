"""Jobs over files without Kafka: the feed, which job it is, what names the rows, and progress."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connectors.clickhouse.queries.upload_rows import Numbers
from connectors.files.mapping import Columns
from connectors.files.uploads import Upload, Uploads
from streams.core.errors import RefusedError
from streams.core.records import Outgoing, Record
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.files.upload_jobs import mapped, row_digest
from streams.jobs.file_source import FileFeed, rows_of
from streams.jobs.job import FileSource, Job, Jobs
from streams.jobs.scheduler import JobRates

TOPICS = Topics("esk")
TIME = datetime(2026, 1, 1, tzinfo=UTC)


async def uploaded(folder: Path, content: bytes) -> tuple[Settings, Upload]:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 7):
            yield content[start : start + 7]

    settings = Settings(labelstream_data=folder)
    upload, _ = await Uploads(settings).receive(pieces(), "a.csv")
    return settings, upload


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def source(upload: Upload) -> FileSource:
    columns = Columns.of(upload.mapping)
    assert columns is not None
    return FileSource(
        id=upload.file_id,
        digest=upload.file_id,
        reading=upload.reading.model_dump(),
        columns=columns.model_dump(),
        time=TIME,
    )


def received(message: Outgoing) -> Record:
    return Record(message.topic, 0, 0, 0, message.key, message.value)


async def test_a_feed_goes_on_behind_its_position(tmp_path: Path) -> None:
    lines = [f"вопрос номер {n}" if n % 100 else "не" if n % 200 else '"open' for n in range(1, 1201)]
    settings, upload = await uploaded(tmp_path, ("text\n" + "\n".join(lines) + "\nабв\n").encode())
    rows = rows_of(settings, source(upload))
    settled = Numbers()
    for number in (1, 700, 1199):
        settled.add(number)
    feed = FileFeed(rows, upload.rows, settled, TOPICS, 4)
    whole = [page async for page in feed.pages(None)]
    assert [page.position for page in whole] == [500, 1000, 1201]
    ids = [item.row_id for page in whole for item in page.items]
    assert len(ids) == len(set(ids))
    assert f"upload:{upload.file_id}:2" in ids
    assert not {f"upload:{upload.file_id}:{n}" for n in (1, 1199)} & set(ids)
    assert sum(page.settled for page in whole) == 3
    assert sum(page.unreadable for page in whole) == sum(line == '"open' for line in lines)
    left = [item.row_id async for page in feed.pages(500) for item in page.items]
    assert left == [one for one in ids if int(one.rpartition(":")[2]) > 500]


async def test_the_same_content_is_the_same_file(tmp_path: Path) -> None:
    _, first = await uploaded(tmp_path, b"text\nsome text\n")
    settings, second = await uploaded(tmp_path, b"text\nsome text\n")
    _, other = await uploaded(tmp_path, b"text\nsome text!\n")
    assert first == second
    assert other.file_id != first.file_id
    assert {one.file_id for one in await Uploads(settings).every()} == {first.file_id, other.file_id}


async def test_nothing_stays_of_an_upload_that_breaks_off(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"text\nabc"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await Uploads(Settings(labelstream_data=tmp_path)).receive(pieces(), "a")
    assert not files_in(tmp_path)


async def test_rows_are_named_by_the_file_and_by_where_their_text_is(tmp_path: Path) -> None:
    _, upload = await uploaded(tmp_path, b"text,reply,ts,user_id\na b c,d e f,2026-01-01,u\n")
    usual = mapped(upload, {})
    assert row_digest(upload, upload.reading, usual) == upload.file_id
    assert row_digest(upload, upload.reading, mapped(upload, {"user": None})) == upload.file_id
    names = {
        row_digest(upload, upload.reading, mapped(upload, given))
        for given in ({}, {"text": "reply"}, {"ts": None}, {"text": "reply", "ts": None})
    }
    assert len(names) == 4
    for wrong in ({"text": None}, {"text": "nothing"}, {"color": "text"}):
        with pytest.raises(RefusedError) as raised:
            mapped(upload, wrong)
        assert raised.value.reason == "mapping"


def test_who_asks_never_goes_before_who_publishes() -> None:
    jobs = Jobs()
    asked = Job(id="upload-1", source="file", kept=True)
    jobs.learn(received(asked.asked_message(TOPICS)))
    assert jobs.state(jobs.named("upload-1")) == "waiting"
    at_work = asked.model_copy(update={"published": 5, "replay_topic_id": "t"})
    jobs.learn(received(at_work.message(TOPICS)))
    jobs.learn(received(asked.asked_message(TOPICS)))
    assert jobs.named("upload-1").published == 5
    assert jobs.state(jobs.named("upload-1")) == "publishing"


def test_numbers() -> None:
    numbers = Numbers()
    for number in (1, 8, 1_000_000):
        numbers.add(number)
    numbers.discard(8)
    numbers.discard(9_999_999)
    assert [n for n in (0, 1, 2, 8, 999_999, 1_000_000, 2_000_000) if n in numbers] == [1, 1_000_000]


def test_a_pace_is_that_of_the_last_minute() -> None:
    times = iter((0.0, 10.0, 100.0, 110.0))
    pace = JobRates(lambda: next(times))
    assert pace.of("a") is None
    for done in (0, 1000, 1100, 1200):
        pace.saw("a", done)
    assert pace.of("a") == pytest.approx(10.0)
    pace.forget("a")
    assert pace.of("a") is None
