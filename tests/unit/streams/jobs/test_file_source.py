"""The rows of an uploaded file, from any position."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from connectors.files.mapping import Columns
from connectors.files.uploads import Upload, Uploads
from streams.core.messages import Row
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.jobs.file_source import FileFeed, rows_of
from streams.jobs.job import FileSource

TOPICS = Topics("esk")
TIME = datetime(2026, 1, 1, tzinfo=UTC)


async def uploaded(folder: Path, content: bytes) -> tuple[Settings, Upload]:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 7):
            yield content[start : start + 7]

    settings = Settings(labelstream_data=folder)
    upload, _ = await Uploads(settings).receive(pieces(), "a.csv")
    return settings, upload


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


async def test_a_feed_goes_on_behind_its_position(tmp_path: Path) -> None:
    lines = [f"вопрос номер {n}" if n % 100 else "не" if n % 200 else '"open' for n in range(1, 1201)]
    settings, upload = await uploaded(tmp_path, ("text\n" + "\n".join(lines) + "\nабв\n").encode())
    rows = rows_of(settings, source(upload))

    async def settled(some: Sequence[Row]) -> set[str]:
        there = {f"upload:{upload.file_id}:{number}" for number in (1, 700, 1199)}
        return there & {row.row_id for row in some}

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
