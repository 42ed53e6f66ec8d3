"""Turns among partitions: Kafka's client empties one partition's buffer, thousands of messages, before it
hands out the next one's. While one is worked through, the others would stand still for half a minute."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import Generic, TypeVar

P = TypeVar("P", bound=Hashable)


class Turns(Generic[P]):
    """Whoever was handed messages comes after those that were not since."""

    def __init__(self, last: Callable[[P], bool]) -> None:
        """``last``: whether a partition comes after all others (replays)."""
        self._last = last
        self._served: set[P] = set()

    def choices(self, active: Collection[P]) -> list[set[P]]:
        """What to ask for, one after the other, until there is something; the last is all of ``active``."""
        every = set(active)
        first = {partition for partition in every if not self._last(partition)}
        found: list[set[P]] = []
        for choice in (first - self._served, first, every - self._served):
            if choice and choice != every and choice not in found:
                found.append(choice)
        return [*found, every]

    def served(self, partitions: Collection[P]) -> None:
        """These were handed out; none: nobody has anything."""
        again = not partitions or not self._served.isdisjoint(partitions)
        self._served = set(partitions) if again else self._served | set(partitions)
