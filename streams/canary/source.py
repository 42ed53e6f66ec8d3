"""The rows of a canary: live rows that were labelled, drawn by a hash of their id and time.

Only rows with a live label are drawn, so every label of the canary's version has another one beside it. The
draw is that of the audit: rows that people are asked about have the lowest numbers, so they are in the canary
too, as far as its share reaches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any

from streams.core.codec import CREATED_AT, LABEL_VERSION, REPLAY_JOB, decode, encode
from streams.core.errors import UndecodableError
from streams.core.label_version import HUMAN
from streams.core.messages import Row
from streams.core.records import Partition, Record
from streams.core.settings import Settings
from streams.core.topics import partition_of
from streams.jobs.job import Job
from streams.jobs.sources import PAGE_ROWS, Item, Page, item_of
from streams.ports.kafka import Tail
from streams.ports.lookups import Place
from streams.quality.audit import draw_number, salt_of

_LOOK_SECONDS = 2.0
# So many rows that were drawn last are not drawn again for another reason, before their labels are stored.
_REMEMBERED = 50_000


def in_canary(settings: Settings, share: float, place: Place) -> bool:
    """Whether a row is drawn; every process, and a replay, says the same."""
    return draw_number(salt_of(settings), place) < share


class LiveFeed:
    """Implements `streams.jobs.sources.RowSource`; its pages never end."""

    def __init__(
        self,
        tail: Tail,
        topic: str,
        topic_id: str,
        settings: Settings,
        job: Job,
        wanted: Callable[[], Awaitable[Iterable[Row]]],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``topic``: where live labels are. ``wanted``: rows that are to be labelled though they were not
        drawn.
        """
        self._tail = tail
        self._topic = topic
        self._topic_id = topic_id
        self._settings = settings
        self._job = job
        self._wanted = wanted
        self._pause = pause
        self._passed: dict[Place, None] = {}

    async def count(self) -> int:
        return 0

    async def pages(self, position: Any) -> AsyncIterator[Page]:
        at = dict(self._job.starts)
        known = self._job.source_topic_id
        if position is not None:
            known, at = position["topic"], {int(number): end for number, end in position["at"].items()}
        if known != self._topic_id:
            at = {}  # the topic was made anew
        partitions = range(self._settings.topic_partitions)
        while True:
            starts = {Partition(self._topic, number): at.get(number, 0) for number in partitions}
            async for records in self._tail.read_many(starts):
                for first in range(0, len(records), PAGE_ROWS):
                    items = []
                    for record in records[first : first + PAGE_ROWS]:
                        at[record.partition] = record.offset + 1
                        row = self._drawn(record)
                        if row is not None:
                            items.append(self._item(row))
                    yield Page(items, self._position(at))
            others = [row for row in await self._wanted() if self._is_new(_place(row))]
            yield Page([self._item(row) for row in others], self._position(at))
            await self._pause(_LOOK_SECONDS)

    def _drawn(self, record: Record) -> Row | None:
        """The row of a label, if it is a live one, and drawn."""
        version = (record.header(LABEL_VERSION) or b"").decode("utf-8", "replace")
        if version in (HUMAN, self._job.version) or record.header(REPLAY_JOB) is not None:
            return None
        try:
            # Most rows are not drawn, and their bytes are not looked at.
            told = record.header(CREATED_AT)
            row = decode(Row, record.value) if told is None else None
            created_at = row.created_at if row is not None else datetime.fromisoformat((told or b"").decode())
            row_id = row.row_id if row is not None else (record.key or b"").decode()
            place = Place(created_at, row_id)
            if not in_canary(self._settings, self._job.share or 0.0, place) or not self._is_new(place):
                return None
            return row or decode(Row, record.value)
        except (UndecodableError, ValueError):
            return None

    def _is_new(self, place: Place) -> bool:
        if place in self._passed:
            return False
        self._passed[place] = None
        while len(self._passed) > _REMEMBERED:
            del self._passed[next(iter(self._passed))]
        return True

    def _item(self, row: Row) -> Item:
        plain = Row.model_construct(**{name: getattr(row, name) for name in Row.model_fields})
        return item_of(plain, partition_of(plain.text, self._settings.topic_partitions), encode(plain))

    def _position(self, at: dict[int, int]) -> dict[str, Any]:
        return {"topic": self._topic_id, "at": dict(at)}


def _place(row: Row) -> Place:
    return Place(row.created_at, row.row_id)
