"""Sources of a replay's rows: the rows topic, the stored labels, or the source table.

Uploaded files are in `streams/jobs/file_source.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

from connectors.clickhouse.poller.backfill import OldRows
from connectors.clickhouse.poller.row_identity import CONTENT
from connectors.clickhouse.poller.settled_rows import PassingRows
from connectors.clickhouse.queries.places import Key
from connectors.clickhouse.queries.relabel_rows import LabelledRows
from streams.core.codec import created_at_header, decode, encode
from streams.core.errors import UndecodableError
from streams.core.messages import Row
from streams.core.records import Outgoing, Partition
from streams.core.times import micros_of
from streams.core.topics import normalise, partition_of
from streams.jobs.job import Job
from streams.jobs.judged_first import JudgedFirst
from streams.ports.kafka import Tail

PAGE_ROWS = 500
_PASS = "pass"
# The number of the pass in which the rows come that people judged. Broken off, it is read from its beginning:
# which row is the first of its text is not known in the middle, and what is on the topics is left out.
_FIRST = -1


@dataclass(frozen=True, slots=True)
class Item:
    """A row to be published again. ``micros``: its time since 1970. ``headers``: in addition to those of
    every replayed row.
    """

    row_id: str
    created_at: bytes
    micros: int
    text: str
    partition: int
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def identity(self) -> tuple[str, bytes]:
        """Identifies the row: its id and time."""
        return (self.row_id, self.created_at)

    @property
    def key(self) -> Key:
        """As the tables know the row."""
        return (self.row_id, self.micros)


@dataclass(frozen=True)
class Page:
    """Some rows, and ``position``, where reading continues after them.

    ``letters``: dead letters of rows that no topic takes. ``unreadable``: messages that are not rows.
    ``settled``: rows that the source itself left out; ``skipped``: rows whose text is too short.
    """

    items: list[Item]
    position: Any
    letters: list[Outgoing] = field(default_factory=list)
    unreadable: int = 0
    settled: int = 0
    skipped: int = 0


class RowSource(Protocol):
    """The rows of one job, in the same order each time."""

    async def count(self) -> int:
        """The approximate number of rows."""

    def pages(self, position: Any) -> AsyncIterator[Page]:
        """The pages from ``position`` (None: the beginning) on."""


class TopicFeed:
    """Rows of the rows topic, from the offsets ``starts`` to ``ends``; those that ``judged`` takes before all
    others.
    """

    def __init__(self, tail: Tail, topic: str, job: Job, judged: JudgedFirst | None = None) -> None:
        self._judged = judged or JudgedFirst(())
        self._tail = tail
        self._topic = topic
        self._job = job

    async def count(self) -> int:
        return sum(max(0, end - self._job.starts.get(number, 0)) for number, end in self._job.ends.items())

    async def pages(self, position: Any) -> AsyncIterator[Page]:
        # The position holds the pass, unless it is 0.
        begin = _begin(self._judged) if position is None else int(position.get(_PASS, 0))
        for number in range(begin, self._job.passes):
            async for page in self._pass(number, position if number == begin else None):
                yield page
            if number + 1 < self._job.passes:
                yield Page([], {_PASS: number + 1})

    async def _pass(self, part: int, position: Any) -> AsyncIterator[Page]:
        of = {_PASS: part} if part else {}
        at = dict(self._job.starts)
        at |= {int(number): offset for number, offset in (position or {}).items() if number != _PASS}
        starts = {
            Partition(self._topic, number): at.get(number, 0)
            for number, end in self._job.ends.items()
            if at.get(number, 0) < end
        }
        async for records in self._tail.read_many(starts):
            for first in range(0, len(records), PAGE_ROWS):
                items, unreadable = [], 0
                for record in records[first : first + PAGE_ROWS]:
                    if record.offset >= self._job.ends[record.partition]:
                        continue
                    at[record.partition] = record.offset + 1
                    try:
                        row = decode(Row, record.value)
                    except UndecodableError:
                        unreadable += not part
                        continue
                    if part >= 0 and self._job.passes > 1 and text_part(row.text, self._job.passes) != part:
                        continue
                    item = item_of(row, record.partition, record.value or b"")
                    if _in_pass(part, item, self._judged):
                        items.append(item)
                if items or unreadable:
                    yield Page(items, None if part == _FIRST else {**at, **of}, unreadable=unreadable)


class TableFeed:
    """Rows that have a label; of several ``passes``, one after the other. Before all of them those that
    ``judged`` takes of ``first``: rows with these texts.
    """

    def __init__(
        self,
        passes: Sequence[LabelledRows],
        partitions: int,
        first: LabelledRows | None = None,
        judged: JudgedFirst | None = None,
    ) -> None:
        self._judged = judged or JudgedFirst(())
        self._passes = dict(enumerate(passes)) | ({_FIRST: first} if first is not None else {})
        self._count = len(passes)
        self._partitions = partitions

    async def count(self) -> int:
        return sum([await one.count() for number, one in self._passes.items() if number != _FIRST])

    async def pages(self, position: Any) -> AsyncIterator[Page]:
        """A position: time, id and, unless it is 0, the pass."""
        begin = _begin(self._judged) if position is None else int(position[2]) if len(position) > 2 else 0
        for number in range(begin, self._count):
            after = None
            if position is not None and number == begin and position[1] is not None:
                after = (int(position[0]), str(position[1]))
            of = [number] if number else []
            async for rows, reached in self._passes[number].pages(after):
                items = [item_of(row, partition_of(row.text, self._partitions), encode(row)) for row in rows]
                for first in range(0, len(items), PAGE_ROWS):
                    some = items[first : first + PAGE_ROWS]
                    page = [item for item in some if _in_pass(number, item, self._judged)]
                    yield Page(page, None if number == _FIRST else [some[-1].micros, some[-1].row_id, *of])
                if number != _FIRST:
                    yield Page([], [*reached, *of])
            if number + 1 < self._count:
                yield Page([], [0, None, number + 1])


class SourceFeed:
    """Old rows of the source table. ``on_the_way``: rows on the topics."""

    def __init__(self, rows: OldRows, partitions: int, on_the_way: PassingRows) -> None:
        self._rows = rows
        self._partitions = partitions
        self._on_the_way = on_the_way

    async def count(self) -> int:
        return await self._rows.count()

    async def pages(self, position: Any) -> AsyncIterator[Page]:
        settled = 0
        after = int(position) if position is not None else None
        async for rows, letters, reached in self._rows.pages(after, self._on_the_way):
            items = [
                item_of(row, partition_of(row.text, self._partitions), encode(row), ((CONTENT, mark),))
                for row, mark, *_ in rows
            ]
            now = self._rows.counts["settled"]
            yield Page(items, reached, letters, settled=now - settled)
            settled = now


def in_sample(share: float | None) -> Callable[[Item], bool]:
    """Whether a row belongs to a sample of ``share`` (0..1); always the same rows."""
    if share is None or share >= 1:
        return lambda item: True
    most = int(share * 2**64)

    def chosen(item: Item) -> bool:
        content = item.row_id.encode() + b"\x00" + item.created_at
        return int.from_bytes(blake2b(content, digest_size=8).digest(), "big") < most

    return chosen


def _begin(judged: JudgedFirst) -> int:
    return _FIRST if judged else 0


def _in_pass(number: int, item: Item, judged: JudgedFirst) -> bool:
    """Whether ``item``, whose text is of that pass, comes in it."""
    return judged.takes(item.key, item.text) if number == _FIRST else not judged.has_taken(item.key)


def text_part(text: str, parts: int) -> int:
    """Which of so many parts a text is in; equal queries are in one."""
    digest = blake2b(normalise(text).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % parts


def item_of(row: Row, partition: int, value: bytes, headers: tuple[tuple[str, bytes], ...] = ()) -> Item:
    """A row of that partition; ``value``: its message."""
    micros = micros_of(row.created_at)
    return Item(row.row_id, created_at_header(row), micros, row.text, partition, value, headers)
