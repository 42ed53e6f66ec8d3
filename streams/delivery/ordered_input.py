"""Intake: each input message once and in order, whatever the consumer does.

Faust drops what it had fetched when a rebalance comes between (it means to seek back, but the client
does not seek to offset 0). A message that is skipped would be committed over by its successors, so a gap
is never believed: it is read from the topic itself. Real gaps are rare: another producer's transactions, and
messages that retention took, which are reported before anything behind them is taken.
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
    """Told of no loss."""


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
        """``start``: the first offset that is owed. ``take`` is given each message once, in order;
        ``filled`` is called when it was given some outside of `offer`, ``failed`` when nothing will come any
        more; ``lost`` before it is given what lies behind offsets that retention took, from the first to the
        second."""
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
        self._closed = False

    def offer(self, record: Record) -> None:
        """A message as the consumer read it. Read twice, it is taken once."""
        if self._closed:
            return
        if self._filling is not None:
            self._held.append(record)
        elif record.offset == self.next:
            self._accept(record)
        elif record.offset > self.next:
            self._held = [record]
            self._begin_to_fill(record.offset)

    def look(self, first: int) -> None:
        """The topic begins at ``first``: what is owed before it is lost, though nothing comes behind it."""
        if not self._closed and self._filling is None and first > self.next:
            self._begin_to_fill(first)

    def _begin_to_fill(self, end: int) -> None:
        self._filling = in_background(self._fill(end), f"fill a gap of {self._partition}", self._failed)

    @property
    def held(self) -> int:
        """Messages that wait for a gap before them."""
        return len(self._held)

    def close(self) -> None:
        """The partition is no longer owned. What the consumer still reads is not taken: those before it were
        let go, and would be committed over."""
        self._closed = True
        self._held = []
        if self._filling is not None:
            self._filling.cancel()

    def _accept(self, record: Record) -> None:
        self._take(record)
        self.next = record.offset + 1  # not before: what could not be taken is owed

    async def _fill(self, end: int) -> None:
        """Take what the topic holds from `next` on and before ``end``, then what was held meanwhile."""
        found = 0
        while self.next < end:
            try:
                found += await self._read(end)
                await self._pass_over(end)
            except Exception as error:
                # Whatever it is: a partition whose gap is given up would stand still for ever.
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
                    if not found:  # retention takes the oldest: what is not there later was never there
                        await self._pass_over(record.offset)
                    self._accept(record)
                    found += 1
            self._filled()
        return found

    async def _pass_over(self, end: int) -> None:
        """What lies between `next` and ``end`` is not there."""
        if self.next < end:
            first = (await self._tail.firsts([self._partition]))[self._partition]
            if first > self.next:
                await self._lost(self.next, min(first, end))
            self.next = end
