"""What the sink has read and not yet committed, in batches by size or time.

A task of its own reads on while a batch is being stored, up to another batch's worth, so that neither
Kafka nor ClickHouse waits for the other, and memory has a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable

import structlog

from streams.core.errors import LeaseLostError, RetryableError
from streams.core.records import Partition, Record
from streams.ports.kafka import GroupInput

log = structlog.get_logger()

BATCH_ROWS = 10_000
BATCH_BYTES = 8_000_000
# When traffic is light: from the first arrival to the insert, and on average from one insert to the next.
# Each makes a part that ClickHouse has to merge. With the insert itself a row waits for well below 1 s.
GATHER_SECONDS = 0.2
APART_SECONDS = 0.55
IDLE_SECONDS = 10.0
# When rows are refused, or the server is slow: from one commit to the next should never be long.
FEWEST_ROWS = 256
# So many at a time, that their bytes are known before the next are asked for, and the loop is never
# kept from the heartbeats for long.
_FETCH = 2_000
_WAIT_SECONDS = 0.2
_AWAY_SECONDS = 1.0


class Batcher:
    """Records of one session, in the order of their offsets within each partition."""

    def __init__(self, source: GroupInput) -> None:
        self.source = source
        self._records: list[Record] = []
        self._bytes = 0
        self._arrivals: deque[tuple[float, int]] = deque()  # when how many of them came
        # When another batch would be on time. One may come sooner: after a pause a label and the variants of
        # its row are stored at once.
        self._on_time = float("-inf")
        self._most = BATCH_ROWS
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """Records that are not `done`."""
        return len(self._records)

    @property
    def ends(self) -> dict[Partition, int]:
        """Behind the last record of each partition that is not `done`."""
        return {Partition(one.topic, one.partition): one.offset + 1 for one in self._records}

    def start(self) -> None:
        """Begin to read."""
        self._reader = asyncio.get_running_loop().create_task(self._read())
        self._reader.add_done_callback(lambda _: self._changed.set())

    async def stop(self) -> None:
        """Read no more. What was read stays."""
        reader, self._reader = self._reader, None
        if reader is not None:
            # Not cancelled, if it can be helped: what a fetch has in its hands would be lost.
            self._changed.set()
            await asyncio.wait([reader], timeout=_AWAY_SECONDS)
            reader.cancel()
            await asyncio.wait([reader])
            if not reader.cancelled():
                reader.exception()  # `batch` has raised it, or nobody wants to know any more

    async def batch(self) -> list[Record]:
        """The oldest records: as many as there may be, or what came within GATHER_SECONDS, but on average not
        more than a batch in APART_SECONDS; none if nothing came for IDLE_SECONDS.

        They stay here until `done`; asked again, it returns them again, with what has come since.

        Raises:
            LeaseLostError: the group takes the partitions back.
        """
        while True:
            # What was not begun when the partitions are asked back belongs to their next owner.
            if self._reader is None or self._reader.done():
                if self._reader is not None:
                    self._reader.result()
                raise LeaseLostError("nothing is read any more")
            left = self._wait_left()
            if self._records and (self._full or left <= 0):
                break
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left if self._records else IDLE_SECONDS)
                continue
            if not self._records:
                break
        now = time.monotonic()
        # Full batches do not wait, and what comes after many of them does not wait for them.
        self._on_time = min(max(self._on_time, now) + APART_SECONDS, now + 2 * APART_SECONDS)
        size, count = 0, 0
        for record in self._records[: self._most]:
            size += len(record.value or b"")
            count += 1
            if size >= BATCH_BYTES:
                break
        return self._records[:count]

    def done(self, count: int) -> None:
        """The oldest ``count`` are committed. After trouble, batches grow again."""
        for record in self._records[:count]:
            self._bytes -= len(record.value or b"")
        del self._records[:count]
        while count and self._arrivals:
            when, came = self._arrivals.popleft()
            if came > count:
                self._arrivals.appendleft((when, came - count))
            count -= min(came, count)
        self._most = min(self._most * 2, BATCH_ROWS)
        self._changed.set()

    def smaller(self, count: int) -> None:
        """A batch of ``count`` was too many at once."""
        self._most = max(FEWEST_ROWS, count // 8)

    def drop(self, unwanted: Callable[[Record], bool]) -> None:
        """Forget what came from a topic that is gone. Only while stopped."""
        self._records = [record for record in self._records if not unwanted(record)]
        self._bytes = sum(len(record.value or b"") for record in self._records)
        self._arrivals = deque([(time.monotonic(), len(self._records))] if self._records else [])

    @property
    def _full(self) -> bool:
        return len(self._records) >= self._most or self._bytes >= BATCH_BYTES

    def _wait_left(self) -> float:
        if not self._arrivals:
            return 0.0
        due = max(self._arrivals[0][0] + GATHER_SECONDS, self._on_time - APART_SECONDS)
        return due - time.monotonic()

    async def _read(self) -> None:
        said, me = False, asyncio.current_task()
        while self._reader is me:
            # One batch is being stored, and one is ready for it: enough.
            if len(self._records) >= 2 * BATCH_ROWS or self._bytes >= 2 * BATCH_BYTES:
                self._changed.clear()
                await self._changed.wait()
                continue
            try:
                found = await self.source.fetch(seconds=_WAIT_SECONDS, most=_FETCH)
            except LeaseLostError:
                raise
            except RetryableError as error:
                if not said:
                    log.warning("waiting for Kafka", reason=str(error))
                said = True
                await asyncio.sleep(_AWAY_SECONDS)
                continue
            said = False
            if found:
                self._arrivals.append((time.monotonic(), len(found)))
                self._records += found
                self._bytes += sum(len(record.value or b"") for record in found)
                self._changed.set()
