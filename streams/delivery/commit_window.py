"""What is in flight of one input partition, and how far it may be committed.

Messages finish in any order; committed is only the contiguous finished prefix. With each position
goes, per output topic, a floor: the offset below which no output of an uncommitted message can lie.
Whoever owns the partition next reads its output from there to learn what is already done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import orjson

from streams.core.records import Commit
from streams.delivery.deduplication import Floors


class Slot:
    """One message in flight."""

    __slots__ = ("done", "floors", "offset")

    def __init__(self, offset: int, floors: Mapping[str, int]) -> None:
        self.offset = offset
        self.floors = floors
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
    ) -> None:
        """``topic_ids``: the incarnations of the topics that position and floors belong to.

        ``before``: the floors that a former owner left. They hold for messages below ``reach``, whose work
        may already lie there, until they are finished here, however often the owner changes meanwhile.
        """
        self._position = position
        self._floors = floors
        self._before = before or {}
        self._reach = reach
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

    def admit(self, offset: int) -> Slot | None:
        """Take ``offset`` in. None if it was already taken: the consumer has read it twice."""
        if offset < self._next:
            return None
        if not self._slots:
            self._position = offset  # what lies between is not there: retention took it, or markers
        slot = Slot(offset, self._floors_at(offset))
        self._slots.append(slot)
        self._next = offset + 1
        return slot

    def finish(self, slot: Slot) -> None:
        """The message is published, dead-lettered, or known to be done."""
        slot.done = True
        while self._slots and self._slots[0].done:
            self._position = self._slots.popleft().offset + 1

    def commit(self) -> Commit:
        """The position, and the floors of the oldest message that is not finished."""
        floors = self._slots[0].floors if self._slots else self._floors_at(self._position)
        known = {"floors": floors, "topic-ids": self._topic_ids}
        return Commit(self._position, orjson.dumps(known).decode())

    def _floors_at(self, offset: int) -> Mapping[str, int]:
        return self._before if offset < self._reach else self._floors.current


def floors_of(metadata: str, topic_ids: Mapping[str, str] | None = None) -> dict[str, int]:
    """The floors in a commit's metadata, without those of topics that were made anew since.

    Empty if somebody else wrote it (Kafka's own tools do).
    """
    floors, ids = _part(metadata, "floors"), _part(metadata, "topic-ids")
    return {
        topic: floor
        for topic, floor in floors.items()
        if isinstance(floor, int) and ids.get(topic) == (topic_ids or ids).get(topic)
    }


def made_anew(metadata: str, topic: str, topic_id: str) -> bool:
    """Whether a commit speaks of another incarnation of ``topic``."""
    return _part(metadata, "topic-ids").get(topic, topic_id) != topic_id


def _part(metadata: str, name: str) -> dict[str, object]:
    try:
        found = orjson.loads(metadata)
    except orjson.JSONDecodeError:
        return {}
    part = found.get(name) if isinstance(found, dict) else None
    return part if isinstance(part, dict) else {}
