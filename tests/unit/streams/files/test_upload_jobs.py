"""Uploaded files: when two are the same, what stays of one that breaks off, what names their rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from connectors.files.rows import FileRow
from connectors.files.uploads import Upload, Uploads
from streams.core.errors import QuestionsError, RefusedError
from streams.core.settings import Settings
from streams.files.upload_jobs import file_job, mapped, row_digest
from streams.jobs.context import JobContext
from streams.jobs.file_source import rows_of
from streams.jobs.job import FileSource
from streams.ports.files import AskedFile
from tests.unit.streams.privacy.fakes import make_door


async def uploaded(folder: Path, content: bytes) -> tuple[Settings, Upload]:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 7):
            yield content[start : start + 7]

    settings = Settings(labelstream_data=folder)
    upload, _ = await Uploads(settings).receive(pieces(), "a.csv")
    return settings, upload


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


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


async def test_open_questions_hold_a_job_until_they_are_answered(tmp_path: Path) -> None:
    content = b"text;date;other\na b c;02/01/2026;2026-05-06\nd e f;03/01/2026;2026-05-07\n"
    settings, upload = await uploaded(tmp_path, content)
    context = cast(JobContext, SimpleNamespace(settings=settings, jobs=SimpleNamespace(jobs={}), door=None))

    async def job(**more: Any) -> FileSource:
        made = await file_job(context, Uploads(settings), AskedFile(file_id=upload.file_id, **more))
        assert made.file is not None
        return made.file

    assert [one.id for one in upload.questions] == ["dates"]
    with pytest.raises(QuestionsError) as raised:
        await job()
    assert [one["id"] for one in raised.value.questions] == ["dates"]
    accepted = await job(accept=True)
    assert (await job(answers={"dates": "day-month-year"})).reading == accepted.reading
    american = await job(answers={"dates": "month-day-year"})
    rows = [one.row for one in rows_of(settings, american) if isinstance(one, FileRow) and one.row]
    assert [row.created_at.month for row in rows] == [2, 3]
    assert american.digest != accepted.digest, "rows with other times are other rows"
    # Another column's times are certain.
    assert (await job(mapping={"timestamp": "other"})).columns["timestamp"] == "other"
    for wrong in ({"dates": "backwards"}, {"color": "red"}):
        with pytest.raises(RefusedError, match="dates"):
            await job(answers=wrong)


async def test_a_column_that_somebody_names_is_asked_about_too(tmp_path: Path) -> None:
    settings, upload = await uploaded(tmp_path, b"text;ts;other\na b c;2026-05-06;02/01/2026\n")
    context = cast(JobContext, SimpleNamespace(settings=settings, jobs=SimpleNamespace(jobs={}), door=None))
    assert not upload.questions
    asked = AskedFile(file_id=upload.file_id, mapping={"timestamp": "other"})
    with pytest.raises(QuestionsError):
        await file_job(context, Uploads(settings), asked)
    answered = asked.model_copy(update={"answers": {"dates": "month-day-year"}})
    made = await file_job(context, Uploads(settings), answered)
    assert made.file is not None
    assert made.file.reading["dates"] == "month-day-year"


async def test_the_name_of_a_file_is_masked_before_its_job_is_published(tmp_path: Path) -> None:
    settings, upload = await uploaded(tmp_path, b"text\na b c\n")
    context = cast(
        JobContext, SimpleNamespace(settings=settings, jobs=SimpleNamespace(jobs={}), door=make_door())
    )
    files = Uploads(settings)
    record = upload.model_copy(update={"name": "заказы +7 916 123-45-67.csv"})

    async def shown(*_: Any) -> Upload:
        return record

    files.shown = shown  # type: ignore[method-assign]
    made = await file_job(context, files, AskedFile(file_id=upload.file_id))
    assert made.file is not None
    assert made.file.name == "заказы [ТЕЛЕФОН].csv"
