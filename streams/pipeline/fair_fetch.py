"""Fetches from partitions in turn. Kafka's client empties the buffer of one partition, thousands of messages,
before it returns messages of the next one. Meanwhile the others would wait for half a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import Generic, TypeVar

P = TypeVar("P", bound=Hashable)


class Turns(Generic[P]):
    """The order of partitions: those that were served come after those that were not served since."""

    def __init__(self, last: Callable[[P], bool]) -> None:
        """``last``: whether a partition comes after all others (replays)."""
        self._last = last
        self._served: set[P] = set()

    def choices(self, active: Collection[P]) -> list[set[P]]:
        """The sets of partitions to fetch from, one after the other until one has messages; the last is all
        of ``active``.
        """
        every = set(active)
        first = {partition for partition in every if not self._last(partition)}
        found: list[set[P]] = []
        for choice in (first - self._served, first, every - self._served):
            if choice and choice != every and choice not in found:
                found.append(choice)
        return [*found, every]

    def served(self, partitions: Collection[P]) -> None:
        """These were served; none: no partition has messages."""
        again = not partitions or not self._served.isdisjoint(partitions)
        self._served = set(partitions) if again else self._served | set(partitions)
