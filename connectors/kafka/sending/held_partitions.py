"""The partitions that one sender could not write at the last try, which wait alone."""

from __future__ import annotations

import time
from typing import Any

import structlog

from streams.core.records import Outage, Partition

log = structlog.get_logger()

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
# Held for so long it is worth a line in the log; an election is not.
_SAY_SECONDS = 3.0


class _Held:
    """Since when, why, and when the next try is due."""

    def __init__(self, now: float, why: str) -> None:
        self.since = now
        self.outage = Outage(time.time(), why)
        self.pause = _FIRST_PAUSE
        self.again = now + self.pause
        self.said = False


class HeldPartitions:
    """Of one sender. ``place`` is aiokafka's `TopicPartition`, ``now`` a reading of `time.monotonic`."""

    def __init__(self, outages: dict[Partition, Outage]) -> None:
        """``outages``: has those of this sender, and those of others with the same producer."""
        self._outages = outages
        self._held: dict[Any, _Held] = {}
        self._closed = False

    def __contains__(self, place: Any) -> bool:
        return place in self._held

    def again(self, place: Any) -> float | None:
        """When the next try is due; None if it is not held."""
        held = self._held.get(place)
        return held.again if held is not None else None

    def hold(self, place: Any, why: str, now: float) -> None:
        """It was not written, or will not be. The next try is due after a pause that grows."""
        if self._closed:
            return
        held = self._held.get(place)
        if held is None:
            held = self._held[place] = _Held(now, why)
        else:
            held.outage, held.again = held.outage._replace(why=why), now + held.pause
            held.pause = min(held.pause * 2, _LONGEST_PAUSE)
        self._outages[Partition(*place)] = held.outage

    def release(self, place: Any) -> None:
        """It was written, or what waited for it is given up."""
        held = self._held.pop(place, None)
        if held is None:
            return
        self._outages.pop(Partition(*place), None)
        if held.said:
            log.info(
                "partition_written_again",
                topic=place.topic,
                partition=place.partition,
                seconds=round(time.monotonic() - held.since, 1),
            )

    def close(self) -> None:
        """The sender sends no more. What it still learns is no outage: nobody would end it."""
        self._closed = True
        for place in self._held:
            self._outages.pop(Partition(*place), None)
        self._held.clear()

    def unsaid(self) -> list[float]:
        """When those that are not in the log yet are due there."""
        return [held.since + _SAY_SECONDS for held in self._held.values() if not held.said]

    def say(self, now: float) -> None:
        """Log those that are due, in one line."""
        new = [
            place for place, held in self._held.items() if not held.said and now - held.since >= _SAY_SECONDS
        ]
        for place in new:
            self._held[place].said = True
        if new:
            first = min(new)
            log.warning(
                "partitions_held",
                count=len(new),
                partitions=[f"{place.topic}/{place.partition}" for place in sorted(new)[:10]],
                reason=self._held[first].outage.why,
                seconds=round(now - self._held[first].since, 1),
            )
