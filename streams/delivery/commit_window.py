"""The messages in flight of one input partition, and the offset up to which it may be committed.

Messages finish in any order, and only the contiguous finished prefix is committed. The metadata of each
position holds a floor for each output topic: no output of an uncommitted message has a lower offset. The next
owner of the partition reads its output from there to learn what is already done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import orjson

from streams.core.losses import reached_in, with_reached
from streams.core.records import TOPIC_IDS, Commit, known_in
from streams.delivery.deduplication import Floors


class Slot:
    """One message in flight."""

    __slots__ = ("done", "floors", "offset", "time")

    def __init__(self, offset: int, floors: Mapping[str, int], time: int | None) -> None:
        self.offset = offset
        self.floors = floors
        self.time = time
        self.done = False


class Window:
    """The messages in flight of one input partition, oldest first."""

    def __init__(
        self,
        position: int,
        floors: Floors,
        topic_ids: Mapping[str, str] | None = None,
        *,
        before: Mapping[str, int] | None = None,
        reach: int = 0,
        reached: int | None = None,
    ) -> None:
        """``topic_ids``: the incarnations of the topics that position and floors belong to. ``reached``: the
        time of the row before ``position``, microseconds since 1970.

        ``before``: the floors of a former owner. They apply to messages below ``reach``, whose output may
        already be there, until these are finished here, however often the owner changes meanwhile.
        """
        self._position = position
        self._floors = floors
        self._before = before or {}
        self._reach = reach
        self._reached = reached
        self._topic_ids = dict(topic_ids or {})
        self._slots: deque[Slot] = deque()
        self._next = position

    @property
    def position(self) -> int:
        """The next offset that a new owner should read."""
        return self._position

    @property
    def span(self) -> int:
        """Offsets between the oldest unfinished message and the newest one admitted."""
        return self._next - self._position if self._slots else 0

    @property
    def reached(self) -> int | None:
        """The time of the row before the position."""
        return self._reached

    def admit(self, offset: int, time: int | None = None) -> Slot | None:
        """Add ``offset``, a message about a row of that time. None if it was added before: the consumer has
        read it twice.
        """
        if offset < self._next:
            return None
        if not self._slots:
            # Offsets in between do not exist: removed by retention, or transaction markers.
            self._position = offset
        slot = Slot(offset, self._floors_at(offset), time)
        self._slots.append(slot)
        self._next = offset + 1
        return slot

    def pass_over(self, end: int) -> None:
        """What lies before ``end`` and was not admitted never will be."""
        if end > self._next:
            gone = Slot(end - 1, self._floors_at(end - 1), None)
            self._slots.append(gone)
            self._next = end
            self.finish(gone)

    def finish(self, slot: Slot) -> None:
        """The message is published, dead-lettered, or known to be done."""
        slot.done = True
        while self._slots and self._slots[0].done:
            first = self._slots.popleft()
            self._position = first.offset + 1
            self._reached = first.time if first.time is not None else self._reached

    def commit(self) -> Commit:
        """The position, and the floors of the oldest unfinished message."""
        floors = self._slots[0].floors if self._slots else self._floors_at(self._position)
        known = with_reached({"floors": floors, TOPIC_IDS: self._topic_ids}, self._reached)
        return Commit(self._position, orjson.dumps(known).decode())

    def _floors_at(self, offset: int) -> Mapping[str, int]:
        return self._before if offset < self._reach else self._floors.current


class Start(NamedTuple):
    """Where a new owner begins with a partition. ``lost``: the offsets (first, one after the last) that
    retention removed before a former owner had read them. ``reached``: the time of the row before, if known.
    """

    position: int
    lost: tuple[int, int] | None
    reached: int | None

    @classmethod
    def of(cls, commit: Commit, first: int, anew: bool, outputs: Floors) -> Start:
        """``first``: the first existing offset. ``anew``: the commit belongs to a topic that was deleted.
        ``outputs``: the ends of the topics that the group writes.
        """
        reached = None if anew else reached_in(commit.metadata)
        if anew or commit.offset >= 0:
            position = 0 if anew else commit.offset
            return cls(max(position, first), (position, first) if position < first else None, reached)
        # No commit, but something was written, so the partition was read: the group was idle for so long that
        # Kafka deleted its commits.
        read = any(outputs.current.values())
        return cls(first, (0, first) if first and not read else None, None)


def floors_of(metadata: str, topic_ids: Mapping[str, str] | None = None) -> dict[str, int]:
    """The floors in a commit's metadata, without those of topics that were recreated since.

    Empty if another program wrote it (such as Kafka's own tools).
    """
    floors, ids = _part(metadata, "floors"), _part(metadata, TOPIC_IDS)
    return {
        topic: floor
        for topic, floor in floors.items()
        if isinstance(floor, int) and ids.get(topic) == (topic_ids or ids).get(topic)
    }


def _part(metadata: str, name: str) -> dict[str, object]:
    part = known_in(metadata).get(name)
    return part if isinstance(part, dict) else {}
