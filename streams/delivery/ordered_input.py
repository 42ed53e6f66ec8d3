"""Passes on each input message once and in order, whatever the consumer does.

Faust drops fetched messages when a rebalance comes in between (it tries to seek back, but the client does not
seek to offset 0). A commit of later messages would skip a missing one. So a gap is never trusted: it is read
from the topic itself. Real gaps are rare: another producer's transactions, and messages that retention
removed, which are reported before anything after them is passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from streams.core.background import in_background
from streams.core.errors import LabelstreamError
from streams.core.records import Partition, Record
from streams.ports.kafka import Tail

log = structlog.get_logger()

_AGAIN_SECONDS = 1.0

Lost = Callable[[int, int], Awaitable[None]]


async def _nobody(start: int, end: int) -> None:
    """The default: losses are not reported."""


class OrderedInput:
    """The order of one input partition."""

    def __init__(
        self,
        partition: Partition,
        start: int,
        tail: Tail,
        take: Callable[[Record], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        filled: Callable[[], None] = lambda: None,
        failed: Callable[[Exception], None] = lambda error: None,
        lost: Lost = _nobody,
    ) -> None:
        """``start``: the first expected offset. ``take`` is called with each message once, in order.
        ``filled`` is called after ``take`` was called outside of `offer`. ``failed`` is called when no more
        messages will come. ``lost`` is called with the first offset that retention removed and the one after
        the last, before any message after them is passed on.
        """
        self.next = start
        self._partition = partition
        self._tail = tail
        self._take = take
        self._sleep = sleep
        self._filled = filled
        self._failed = failed
        self._lost = lost
        self._held: list[Record] = []
        self._filling: asyncio.Task[None] | None = None
        self.closed = False

    def offer(self, record: Record) -> None:
        """A message from the consumer. If it is read twice, it is passed on once."""
        if self.closed:
            return
        if self._filling is not None:
            self._held.append(record)
        elif record.offset == self.next:
            self._accept(record)
        elif record.offset > self.next:
            self._held = [record]
            self._begin_to_fill(record.offset)

    def look(self, first: int) -> None:
        """The topic begins at ``first``: expected messages before it are lost, although no message comes
        after them.
        """
        if not self.closed and self._filling is None and first > self.next:
            self._begin_to_fill(first)

    def _begin_to_fill(self, end: int) -> None:
        self._filling = in_background(self._fill(end), f"fill a gap of {self._partition}", self._failed)

    def skip_to(self, offset: int) -> None:
        """All messages before ``offset`` are finished."""
        self.next = max(self.next, offset)

    def cut(self, end: int) -> None:
        """The log ends at ``end``, before the expected offset."""
        self.next = min(self.next, end)

    @property
    def held(self) -> int:
        """Messages that wait until a gap before them is filled."""
        return len(self._held)

    def close(self) -> None:
        """The partition is no longer owned. Messages that the consumer still reads are not taken: those
        before them were dropped, and a commit would skip them.
        """
        self.closed = True
        self._held = []
        if self._filling is not None:
            self._filling.cancel()

    def _accept(self, record: Record) -> None:
        self._take(record)
        self.next = record.offset + 1  # only now: a message that could not be taken is still expected

    async def _fill(self, end: int) -> None:
        """Take the messages of the topic from `next` to before ``end``, then those that were held
        meanwhile.
        """
        found = 0
        while self.next < end:
            try:
                found += await self._read(end)
                await self._pass_over(end)
            except Exception as error:
                # Whatever the error is: without this, a partition with an open gap would stop for ever.
                expected = isinstance(error, LabelstreamError)
                known = str(error) if expected else repr(error)
                log.warning(
                    "gap_not_read",
                    partition=self._partition,
                    start=self.next,
                    error=known,
                    exc_info=not expected,
                )
                await self._sleep(_AGAIN_SECONDS)
        if found:
            log.warning("gap_filled", partition=self._partition, before=end, messages=found)
        held, self._held, self._filling = self._held, [], None
        for record in held:
            self.offer(record)
        self._filled()

    async def _read(self, end: int) -> int:
        found = 0
        async for records in self._tail.read(*self._partition, self.next):
            for record in records:
                if record.offset >= end:
                    return found
                if record.offset >= self.next:
                    # Retention removes the oldest messages first: what is missing after them never existed.
                    if not found:
                        await self._pass_over(record.offset)
                    self._accept(record)
                    found += 1
            self._filled()
        return found

    async def _pass_over(self, end: int) -> None:
        """The offsets from `next` to ``end`` do not exist."""
        if self.next < end:
            first = (await self._tail.firsts([self._partition]))[self._partition]
            if first > self.next:
                await self._lost(self.next, min(first, end))
            self.next = end
