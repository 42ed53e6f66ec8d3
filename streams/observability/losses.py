"""Reports messages that retention removed unread: a counter, a log line, and a record by which their rows are
found again.
"""

from __future__ import annotations

import time
from collections import Counter

import structlog

from streams.core.losses import Loss
from streams.core.records import Partition
from streams.ports.kafka import Lease, Sender

log = structlog.get_logger()


class LossReporter:
    """Reports for one member of a group. ``counts``: messages, by topic; ``times``: when the last of them
    were found, seconds since 1970.
    """

    def __init__(self, group: str, cursor: str, sender: Sender, lease: Lease) -> None:
        """``cursor``: the topic for the records."""
        self.counts: Counter[str] = Counter()
        self.times: dict[str, float] = {}
        self.group = group
        self._cursor = cursor
        self._sender = sender
        self._lease = lease
        self._told: dict[str, int] = {}  # up to which offset, by partition

    async def report(
        self, where: Partition, topic_id: str, start: int, end: int, since: int | None, generation: int
    ) -> None:
        """Nothing may be committed after offsets ``start`` to ``end`` (exclusive) before this returns.
        ``since`` as in `Loss`.

        Raises:
            LeaseLostError: another process owns the partition now, and will find the same.
            RetryableError: it was not recorded; call again.
        """
        loss = Loss(
            group=self.group,
            topic=where.topic,
            topic_id=topic_id,
            partition=where.partition,
            start=start,
            end=end,
            since=since,
        )
        await self._lease.hold(generation)
        await self._sender.send(loss.message(self._cursor))
        told = self._told.get(loss.id, start)
        if told >= end:
            return
        self._told[loss.id] = end
        self.counts[where.topic] += end - told
        self.times[where.topic] = time.time()
        log.error(
            "messages_lost",
            topic=where.topic,
            partition=where.partition,
            group=self.group,
            start=start,
            end=end,
            messages=loss.messages,
            reason="the topic lost them, to its retention or with its end; their rows are looked for again",
        )
