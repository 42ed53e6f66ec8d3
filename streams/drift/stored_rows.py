"""Up to which time all rows have their labels in the tables.

Each text has its partition, so a partition that lags takes its texts and labels out of the newest hours: that
looks like drift. Therefore an hour is compared only when nothing of it is under way. Where the topics end is
noted, together with how far the poller has read: once the agents have passed that point in every partition,
and then the sink what they had published, all rows up to there are stored. A partition without rows has
nothing to pass. What became a dead letter has passed, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog

from streams.core.records import Partition
from streams.core.topics import ConsumerGroup, Topics
from streams.ports.kafka import InFlight, Tail

log = structlog.get_logger()

# From when on it is said that a partition holds the comparison up, and when it is not waited for any more.
_TOLD_SECONDS, _MOST_SECONDS = 900.0, 86_400.0


class _Point(NamedTuple):
    """``until``: the rows before it, microseconds since 1970. ``at``: when it was noted. ``ends``: by
    partition, what has to be read until they are stored.
    """

    topic: str
    until: int
    at: float
    ends: Mapping[int, int]


class StoredRows:
    """Two points are under way at most: one for the agents, one for the sink.

    ``until``: before this time, microseconds since 1970, all rows are stored, or are not waited for any more;
    None if it is not known yet. ``lacking``: before this time some may be lacking.
    """

    def __init__(
        self,
        topics: Topics,
        partitions: int,
        tail: Tail,
        in_flight: InFlight,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``partitions``: of the topics."""
        self._topics, self._partitions = topics, partitions
        self._tail, self._in_flight, self._clock = tail, in_flight, clock
        self._rows: _Point | None = None
        self._labels: _Point | None = None
        self._said = False
        self.until: int | None = None
        self.lacking = 0

    async def look(self, published: int) -> None:
        """Find out. ``until`` follows ``published``, before which all rows are on the topic, by some calls.

        Raises:
            UnavailableError, AccessError: of Kafka.
        """
        topics = self._topics
        for _ in range(2):  # what an older point has waited for may be all there is
            await self._look_at_sink()
            if self._rows is None:
                self._rows = await self._point(topics.rows, published, self._clock())
            if self._labels is None and not await self._behind(self._rows, topics.groups.agents):
                self._labels = await self._point(topics.labeled, self._rows.until, self._rows.at)
                self._rows = None
        await self._look_at_sink()

    async def _look_at_sink(self) -> None:
        if self._labels is not None and not await self._behind(self._labels, self._topics.groups.sink):
            self.until = max(self.until or 0, self._labels.until)
            self._labels = None

    async def _point(self, topic: str, until: int, at: float) -> _Point:
        places = [Partition(topic, number) for number in range(self._partitions)]
        bounds = await self._tail.bounds_many(places)
        return _Point(topic, until, at, {where.partition: end for where, (_, end) in bounds.items()})

    async def _behind(self, point: _Point, group: ConsumerGroup) -> bool:
        """Whether ``group`` has something to read still before the point."""
        committed = await self._in_flight.committed(group.name, point.topic)
        places = [Partition(point.topic, number) for number in point.ends]
        bounds = await self._tail.bounds_many(places)
        # What retention took is read by nobody; a topic that ends earlier was made anew.
        waits = [
            number
            for (_, number), (first, end) in bounds.items()
            if max(committed.get(number, -1), first) < min(point.ends[number], end)
        ]
        waited = self._clock() - point.at
        if waits and waited < _MOST_SECONDS:
            if waited > _TOLD_SECONDS and not self._said:
                self._said = True
                log.info("drift_waits", topic=point.topic, partitions=sorted(waits)[:10], group=group.name)
            return True
        if waits:
            self.lacking = max(self.lacking, point.until)
        else:
            self._said = False
        return False
