"""Masks the rows of a job's source that were not masked on their way in: those of uploaded files, and those
that were published or stored before masking was switched on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from streams.core.codec import CREATED_AT, decode, encode, encode_dead_letter
from streams.core.context import TRACEPARENT, traceparent_of
from streams.core.messages import DeadLetter, Row
from streams.core.records import Outgoing
from streams.core.topics import Topics, partition_of
from streams.jobs.sources import Item, Page, RowSource
from streams.privacy.door import REASON, STEP, Door


class MaskedFeed:
    """The rows of ``feed``, masked. ``where`` they are, for the dead letters of those that cannot be."""

    def __init__(self, feed: RowSource, door: Door, topics: Topics, partitions: int, *, where: str) -> None:
        self._feed = feed
        self._door = door
        self._topics = topics
        self._partitions = partitions
        self._where = where

    async def count(self) -> int:
        return await self._feed.count()

    async def pages(self, position: Any) -> AsyncIterator[Page]:
        async with aclosing(self._feed.pages(position)) as pages:  # type: ignore[type-var]
            async for page in pages:
                yield await self._masked(page)

    async def _masked(self, page: Page) -> Page:
        rows = [decode(Row, item.value) for item in page.items]
        items: list[Item] = []
        letters = list(page.letters)
        # A file may be an export, whose ids are pseudonyms: they stay, so that an erasure finds the rows.
        found = await self._door.rows(rows, from_source=False)
        for item, plain, row in zip(page.items, rows, found, strict=True):
            if row is None:
                letters.append(self._letter(item))
            elif row == plain:
                items.append(item)
            else:
                partition = partition_of(row.text, self._partitions)
                items.append(replace(item, text=row.text, partition=partition, value=encode(row)))
        return replace(
            page, items=items, letters=letters, unreadable=page.unreadable + len(page.items) - len(items)
        )

    def _letter(self, item: Item) -> Outgoing:
        letter = DeadLetter(
            row_id=item.row_id,
            step=STEP,
            reason=REASON,
            error=f"the row cannot be masked, so it is not published; it is in {self._where}, id "
            f"{item.row_id}, {item.created_at.decode()}",
            failed_at=datetime.now(UTC),
        )
        value, headers = encode_dead_letter(letter)
        headers += [
            (CREATED_AT, item.created_at),
            (TRACEPARENT, traceparent_of(item.row_id, item.created_at)),
        ]
        partition = partition_of(item.row_id, self._partitions)
        return Outgoing(self._topics.dead_letter, partition, item.row_id.encode(), value, headers)
