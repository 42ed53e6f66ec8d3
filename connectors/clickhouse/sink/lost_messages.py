"""Finds what was gone before the sink had read it: noted before anything behind it is committed.

Retention takes the oldest messages. A leader that is elected without the newest ones, or a topic that is
restored from a copy, lacks the end of the log; new messages get the offsets of those that are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import structlog

from connectors.clickhouse.sink.inserter import while_ours
from streams.core.losses import reached_in, time_of
from streams.core.records import Commit, Partition, Record
from streams.ports.kafka import Lease, Tail

log = structlog.get_logger()

# A partition without a leader is not waited for: nothing comes from it meanwhile.
_PATIENCE_SECONDS = 2.0

Report = Callable[[Partition, str, int, int, int | None, int], Awaitable[None]]


async def no_report(*_: object) -> None:
    """Told of no loss."""


class CutError(Exception):
    """A log ends before what was read of it."""


class Jump(NamedTuple):
    """Offsets from ``start`` on and before ``end`` that were not read. ``since``: as `Loss`."""

    partition: Partition
    start: int
    end: int
    since: int | None


class LostMessages:
    """The order of what one owner reads. ``report`` as `streams.observability.losses.LossReporter.report`."""

    def __init__(self, tail: Tail, lease: Lease, report: Report) -> None:
        self._tail = tail
        self._lease = lease
        self._report = report
        self._generation = -1
        self._ids: Mapping[str, UUID] = {}
        self._next: dict[Partition, int] = {}
        self._reached: dict[Partition, int | None] = {}
        self.passed: dict[Partition, int] = {}  # behind what is lost, where nothing has come since

    async def begin(
        self, positions: Mapping[Partition, Commit], ids: Mapping[str, UUID], generation: int
    ) -> None:
        """Partitions are taken over. ``positions``: the next offset that is owed of each, and its metadata;
        ``ids``: the topics' incarnations.

        Raises:
            LeaseLostError: they are no longer ours.
        """
        self._generation, self._ids, self.passed = generation, ids, {}
        self._next = {partition: commit.offset for partition, commit in positions.items()}
        self._reached = {partition: reached_in(commit.metadata) for partition, commit in positions.items()}
        bounds = await self._bounds(self._next, generation, _PATIENCE_SECONDS)
        for partition, (first, _) in bounds.items():
            await self._gone(partition, first)

    async def ends(self, positions: Mapping[Partition, int], generation: int) -> dict[Partition, int]:
        """The ends of those logs that end before the given positions: they lost their end. Partitions that
        cannot be read now are left out: what comes of them later is compared again.

        Raises:
            LeaseLostError: the partitions are no longer ours.
        """
        bounds = await self._bounds(positions, generation, _PATIENCE_SECONDS)
        return _cut(bounds, positions)

    async def _bounds(
        self, partitions: Iterable[Partition], generation: int, patience: float | None
    ) -> dict[Partition, tuple[int, int]]:
        """The first offset and the end of each, as its present leader tells; of those that answer within
        ``patience`` seconds."""
        found: dict[Partition, tuple[int, int]] = {}

        async def ask() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    async for some in self._tail.written((), partitions):
                        found.update(some)

        partitions = list(partitions)
        await while_ours(self._lease, generation, "Kafka", ask)
        return found

    async def cut(
        self, partition: Partition, end: int, commit: Commit, topic_id: UUID, generation: int
    ) -> None:
        """Record that the log of ``partition`` ends at ``end``, before ``commit``.

        Raises:
            LeaseLostError: it is no longer ours.
        """
        log.error("commit_beyond_end", partition=partition, committed=commit.offset, end=end)
        since = reached_in(commit.metadata)
        await while_ours(
            self._lease,
            generation,
            "Kafka",
            lambda: self._report(partition, str(topic_id), end, commit.offset, since, generation),
        )

    async def refuse_cut(self, records: Mapping[Partition, Sequence[Record]]) -> None:
        """Messages that come again may be others: the client begins anew where a log ends before its
        position.

        Raises:
            LeaseLostError, CutError: as `look`.
        """
        again = {
            where: self._next[where]
            for where, found in records.items()
            if found[0].offset < self._next[where]
        }
        if again and (cut := _cut(await self._bounds(again, self._generation, None), again)):
            raise CutError(str(sorted(cut)))

    async def look(self) -> None:
        """What is owed and gone, though nothing comes behind it.

        Raises:
            LeaseLostError: as `begin`.
            CutError: a log ends before what was read of it.
        """
        bounds = await self._bounds(self._next, self._generation, _PATIENCE_SECONDS)
        if cut := _cut(bounds, self._next):
            raise CutError(str(sorted(cut)))
        for partition, (first, _) in bounds.items():
            await self._gone(partition, first)

    async def _gone(self, partition: Partition, first: int) -> None:
        start = self._next[partition]
        if first > start:
            await self._tell(Jump(partition, start, first, self._reached[partition]), first)
            self._next[partition] = self.passed[partition] = first

    async def check(self, records: Mapping[Partition, Sequence[Record]]) -> None:
        """Before ``records`` are committed, which ascend in each partition.

        Raises:
            LeaseLostError: as `begin`.
        """
        jumps = [jump for partition, found in records.items() for jump in self._jumps(partition, found)]
        if jumps:
            firsts = await self._firsts(list({jump.partition for jump in jumps}))
            for jump in jumps:
                await self._tell(jump, firsts[jump.partition])
        for partition, found in records.items():
            self._next[partition] = max(self._next[partition], found[-1].offset + 1)
            self.passed.pop(partition, None)
            if (time := time_of(found[-1])) is not None:
                self._reached[partition] = time

    def reached(self, partition: Partition) -> int | None:
        """The time of the last row that was checked, microseconds since 1970, if it is known."""
        return self._reached.get(partition)

    def _jumps(self, partition: Partition, found: Sequence[Record]) -> list[Jump]:
        """From and to which offsets messages jump over others, and the time of the row before."""
        if found[-1].offset - self._next[partition] + 1 == len(found):
            return []
        jumps: list[Jump] = []
        expected, since = self._next[partition], self._reached[partition]
        for record in found:
            if record.offset > expected:
                jumps.append(Jump(partition, expected, record.offset, since))
            expected = max(expected, record.offset + 1)
            since = time_of(record) or since
        return jumps

    async def _tell(self, jump: Jump, first: int) -> None:
        partition, start, to, since = jump
        if (end := min(first, to)) > start:
            topic_id = str(self._ids[partition.topic])
            await while_ours(
                self._lease,
                self._generation,
                "Kafka",
                lambda: self._report(partition, topic_id, start, end, since, self._generation),
            )

    async def _firsts(self, partitions: list[Partition]) -> dict[Partition, int]:
        return await while_ours(self._lease, self._generation, "Kafka", lambda: self._tail.firsts(partitions))


def _cut(
    bounds: Mapping[Partition, tuple[int, int]], positions: Mapping[Partition, int]
) -> dict[Partition, int]:
    """The ends that are before the positions."""
    return {where: end for where, (_, end) in bounds.items() if end < positions[where]}
