"""Uploaded files: when two are the same, what stays of one that breaks off, what names their rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connectors.files.uploads import Upload, Uploads
from streams.core.errors import RefusedError
from streams.core.settings import Settings
from streams.files.upload_jobs import mapped, row_digest


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
