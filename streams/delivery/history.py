"""Rows of a recreated input topic that were published before it was deleted: they may come again.

They are recognised by identity, so the outputs have to be read. But an output is younger than its row. So
only outputs are read that are younger than the oldest row that was asked for, with a margin for source
tables with another clock, and only when a row asks. Other inputs do not wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

import structlog

from streams.core.records import Partition
from streams.delivery.recovery import Share
from streams.ports.kafka import Tail

log = structlog.get_logger()

# A time without a zone can be wrong by this much.
_MARGIN_SECONDS = 26 * 3600.0


class History:
    """Reads the published messages of one partition number, from some time on, into the share's memory."""

    def __init__(self, share: Share, tail: Tail, clock: Callable[[], float] = time.time) -> None:
        """``clock``: seconds since 1970."""
        self._memory = share.memory
        self._known_from = dict(share.tail)
        self._tail = tail
        self._clock = clock
        self._since = float("inf")  # seconds since 1970
        self._reading = asyncio.Lock()

    async def cover(self, created_at: datetime) -> None:
        """Read everything that may have been published of a row with this time.

        Raises:
            UnavailableError, AccessError: Kafka does not answer.
        """
        now = self._clock()
        since = created_at.timestamp() - _MARGIN_SECONDS
        if since > now - _MARGIN_SECONDS / 2:
            since = float("-inf")  # a time in the future: the row may have been labelled at any time
        async with self._reading:
            if since < self._since:
                # Twice as far back as needed, so that older and older rows cause few reads.
                await self._read_since(now - 2 * (now - since))

    async def _read_since(self, since: float) -> None:
        bounds = await self._tail.bounds_many(list(self._known_from))
        begins = {place: first for place, (first, _) in bounds.items()}
        if since > 0:
            at = await self._tail.offsets_at(list(self._known_from), int(since * 1000))
            begins = {place: max(first, at[place]) for place, first in begins.items()}
        missing: dict[Partition, int] = {
            place: begin for place, begin in begins.items() if begin < self._known_from[place]
        }
        upto = {place: (bounds[place][0], self._known_from[place]) for place in missing}
        count = 0
        async for records in self._tail.read_many(missing, upto):
            count += len(records)
            for record in records:
                self._memory.learn(record)
        self._known_from |= missing
        self._since = since
        log.info("history_read", messages=count, partitions=sorted(missing))
