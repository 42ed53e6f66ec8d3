"""Rows for partitions that cannot be written now: these wait, and all others are published.

What was sent when such an outage began stays with the sender, unconfirmed. Later rows of the partition are
left in the source table, and remembered by their marks. The look-back window, and with it the cursor, stays
before the oldest of them, so that no crash loses them. When the partition is written again, the table is
read from there on once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from connectors.clickhouse.poller.published_rows import Published
from streams.core.records import Partition
from streams.observability.publish_spans import WatchedRun
from streams.ports.kafka import Sender
from streams.ports.outages import settled, stopped

# Rows that are read past the oldest one that waits: they are remembered, and read again after a crash.
MOST_ROWS = 500_000

Sending = asyncio.Task[list[tuple[int, int]]]


class HeldRun(NamedTuple):
    """Rows of one page that were sent to a partition and are not confirmed: their newest time, the oldest
    one of the page's new rows, and the source's clock when they were read. ``watched``: where traces are
    exported."""

    sending: Sending
    where: Partition
    newest: int
    oldest: int
    now: int
    watched: WatchedRun | None = None


class HeldRows:
    """Of one publisher, from one learning to the next."""

    def __init__(self, sender: Sender, published: Published) -> None:
        """``published``: remembers the rows that are left in the table."""
        self.runs: list[HeldRun] = []
        self._sender = sender
        self._published = published
        self._again: int | None = None  # from this time on the table must be read again
        self._rows = 0

    @property
    def oldest(self) -> int | None:
        """The oldest time of the rows that wait, or an older one; None if none waits."""
        times = [run.oldest for run in self.runs] + list(self._published.left().values())
        return min(times if self._again is None else [*times, self._again], default=None)

    def stopped(self) -> set[Partition]:
        """The partitions that get no more rows now."""
        return {run.where for run in self.runs} | stopped(self._sender.outages)

    def newer_than(self, micros: int) -> bool:
        """Whether an unconfirmed row may have this time or a newer one."""
        return any(run.newest >= micros for run in self.runs)

    # --- what was sent ---

    async def wait(self, runs: Sequence[HeldRun]) -> None:
        """Wait until each is confirmed, or failed, or its partition is stopped."""
        await settled([(run.sending, run.where) for run in runs], self.stopped)

    def confirmed(self) -> Iterator[HeldRun]:
        """Those that are no longer held, because they are confirmed or have failed. A run never overtakes
        an earlier one of its partition: the cursor's starts depend on their order."""
        waiting: set[Partition] = set()
        for run in list(self.runs):
            if run.where in waiting or not run.sending.done():
                waiting.add(run.where)
            else:
                self.runs.remove(run)
                yield run

    async def over(self) -> None:
        """Wait until nothing is being sent any more, whatever the result."""
        await asyncio.gather(*(run.sending for run in self.runs), return_exceptions=True)

    # --- what is left in the table ---

    def leave(self, where: Partition, micros: Any, contents: Any) -> None:
        """Leave rows in the table, by columns: int64 and uint64."""
        self._published.leave(where, micros, contents)
        self._rows += len(micros)

    def read_on(self, rows: int) -> None:
        """So many new rows were sent."""
        self._rows = self._rows + rows if self.oldest is not None else 0

    @property
    def full(self) -> bool:
        """Whether no more rows may be read, because too many would have to be remembered."""
        if self._rows < MOST_ROWS:
            return False
        return not self.stopped().isdisjoint([run.where for run in self.runs] + list(self._published.left()))

    def take_back(self) -> int | None:
        """The time from which on the table must be read again, because partitions are written again whose
        rows were left; None for no such. Call `read_again` after that."""
        held, left = self.stopped(), self._published.left()
        for where, oldest in left.items():
            if where not in held:
                self._published.take_back(where)
                self._again = oldest if self._again is None else min(self._again, oldest)
        return self._again

    def read_again(self) -> None:
        """The table was read again, to its end."""
        self._again = None
