"""The rows of an uploaded file: their ids contain their number, and rows that are already labelled are left
out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from connectors.clickhouse.queries.labelled_rows import any_given_up
from connectors.clickhouse.queries.upload_rows import Numbers, settled_ids
from connectors.files.mapping import Columns
from connectors.files.records import Broken, Reading
from connectors.files.rows import ROW_ID, FileRow, Rows
from connectors.files.uploads import path_of
from streams.core.codec import encode, encode_dead_letter
from streams.core.errors import ConfigurationError
from streams.core.messages import DeadLetter, Row
from streams.core.records import Outgoing
from streams.core.settings import Settings
from streams.core.times import micros_of
from streams.core.topics import VALUE_BYTES, Topics, partition_of
from streams.jobs.context import JobContext
from streams.jobs.job import FileSource, Job
from streams.jobs.sources import PAGE_ROWS, Page, item_of

T = TypeVar("T")


def rows_of(settings: Settings, file: FileSource) -> Rows:
    """The content of the file, row by row.

    Raises:
        ConfigurationError: the file is not on this machine.
    """
    path = path_of(settings, file.id)
    if not path.is_file():
        raise ConfigurationError(
            f"the uploaded file {file.id} is not in {path.parent}",
            setting="LABELSTREAM_DATA",
            fix="upload it again, or give all API processes one folder",
        )
    return Rows(
        path,
        Reading.model_validate(file.reading),
        Columns.model_validate(file.columns),
        digest=file.digest,
        time=file.time,
        least_bytes=settings.min_text_length,
        quoting=settings.privacy == "off",
    )


def prefix_of(file: FileSource) -> str:
    """The beginning of the ids of the file's rows."""
    return f"{ROW_ID}:{file.digest}:"


class FileFeed:
    """Rows of a file. The position of a page is the number of its last row."""

    def __init__(
        self,
        rows: Rows,
        count: int,
        settled: Callable[[Sequence[Row]], Awaitable[set[str]]],
        topics: Topics,
        partitions: int,
    ) -> None:
        """``settled``: the ids of those of some rows that are left out."""
        self._rows = rows
        self._count = count
        self._settled = settled
        self._topics = topics
        self._partitions = partitions

    async def count(self) -> int:
        return self._count

    async def pages(self, position: Any) -> AsyncIterator[Page]:
        done = int(position) if position is not None else 0
        rows = iter(self._rows)
        await asyncio.to_thread(_pass, rows, done)
        while some := await asyncio.to_thread(_next, rows, PAGE_ROWS):
            there = [one.row for one in some if isinstance(one, FileRow) and one.row is not None]
            yield await asyncio.to_thread(self._page, some, await self._settled(there))

    def _page(self, rows: list[FileRow | Broken], settled_ids: set[str]) -> Page:
        items, letters = [], list[Outgoing]()
        unreadable = skipped = settled = 0
        for one in rows:
            if isinstance(one, Broken):
                unreadable += 1
            elif one.row is None:
                skipped += 1
            elif one.row.row_id in settled_ids:
                settled += 1
            else:
                partition = partition_of(one.row.text, self._partitions)
                value = encode(one.row)
                if len(value) > VALUE_BYTES:
                    letters.append(self._too_large(one.row, partition, len(value)))
                    unreadable += 1
                else:
                    items.append(item_of(one.row, partition, value))
        return Page(items, rows[-1].number, letters, unreadable=unreadable, settled=settled, skipped=skipped)

    def _too_large(self, row: Row, partition: int, size: int) -> Outgoing:
        letter = DeadLetter(
            row_id=row.row_id,
            step="poll",
            reason="too-large",
            error=f"{size} bytes are too many for the topic; the row is in the uploaded file",
            failed_at=datetime.now(UTC),
        )
        value, headers = encode_dead_letter(letter)
        return Outgoing(self._topics.dead_letter, partition, row.row_id.encode(), value, headers)


async def open_file_source(context: JobContext, job: Job, sent: Iterable[str]) -> FileFeed:
    """The rows of ``job``. ``sent``: ids of rows that it has published and not recorded.

    Rows for the live version are left out if they have a label, are dead letters, or are in flight. Kafka is
    asked first, the tables last. For a version of its own, `Publishing` compares.

    Raises:
        ConfigurationError: the file is not on this machine.
        UnavailableError, AccessError.
    """
    assert job.file is not None
    rows = rows_of(context.settings, job.file)
    settled = await _settled(context, job, sent) if job.version is None else _nothing
    return FileFeed(rows, job.expected, settled, context.topics, context.settings.topic_partitions)


async def _settled(
    context: JobContext, job: Job, sent: Iterable[str]
) -> Callable[[Sequence[Row]], Awaitable[set[str]]]:
    assert job.file is not None
    passing, own, prefix = Numbers(), Numbers(), prefix_of(job.file)
    async for row_id, _, _ in context.in_flight.all():
        if row_id.startswith(prefix):
            passing.add(_number(row_id))
    for row_id in sent:
        own.add(_number(row_id))
    letters = await any_given_up(context.client, context.settings)

    async def settled(rows: Sequence[Row]) -> set[str]:
        others = [row for row in rows if _number(row.row_id) not in own]
        found = {row.row_id for row in others if _number(row.row_id) in passing}
        keys = [(row.row_id, micros_of(row.created_at)) for row in others if row.row_id not in found]
        return found | await settled_ids(context.client, context.settings, keys, letters=letters)

    return settled


async def _nothing(_: Sequence[Row]) -> set[str]:
    """`Publishing` compares the rows."""
    return set()


def _number(row_id: str) -> int:
    number = row_id.rpartition(":")[2]
    return int(number) if number.isascii() and number.isdigit() else 0


def _next(rows: Iterator[T], count: int) -> list[T]:
    return list(islice(rows, count))


def _pass(rows: Iterator[Any], number: int) -> None:
    """Skip the rows that are done: a million rows take some seconds."""
    for _ in islice(rows, number):
        pass


def there(settings: Settings, file: FileSource) -> bool:
    """Whether the file is on this machine."""
    return Path(path_of(settings, file.id)).is_file()
