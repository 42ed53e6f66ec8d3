"""The messages in flight of one input partition, and how far they may be committed.

Messages finish in any order, and only the contiguous finished prefix is committed. The metadata of each
position says which offsets after it are finished too, and for each output topic from which offset on there
may be outputs that the commit does not count. The next owner of the partition reads its outputs from there.
So it reads what was written since the last commit, however long one message keeps the others waiting.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from streams.core.losses import with_reached
from streams.core.records import TOPIC_IDS, Commit, Partition, known_in

# Offsets further than this after the position are not started: a commit's metadata is limited.
FURTHEST = 8192
_BEGINS = "begins"


class OutputEnds:
    """For each output topic of one partition number, the offset from which on this process may still write.

    Shared by all inputs that write there.
    """

    def __init__(self, ends: Mapping[str, int]) -> None:
        self.current: Mapping[str, int] = dict(ends)

    def sent(self, topic: str, offset: int) -> None:
        """An output was confirmed at ``offset``.

        Brokers append in order, so everything that is sent from now on has a higher offset.
        """
        if offset >= self.current.get(topic, 0):
            self.current = {**self.current, topic: offset + 1}


class Slot:
    """One message in flight. ``lows``: for each topic, the lowest offset that its output can have, if it may
    have been written already.
    """

    __slots__ = ("done", "lows", "offset", "time")

    def __init__(self, offset: int, done: bool, time: int | None) -> None:
        self.offset = offset
        self.done = done
        self.time = time
        self.lows: Mapping[str, int] = {}

    def handed_over(self, ends: OutputEnds, topic: str | None = None) -> None:
        """From now on its output may be on ``topic``; on any topic, if another message of the same row is
        being processed.
        """
        if topic is None:
            self.lows = {**ends.current, **self.lows}
        elif topic not in self.lows:
            self.lows = {**self.lows, topic: ends.current.get(topic, 0)}


class CommitWindow:
    """The messages in flight of one input partition, oldest first."""

    def __init__(
        self,
        position: int,
        ends: OutputEnds,
        topic_ids: Mapping[str, str] | None = None,
        *,
        done: Iterable[int] = (),
        anew: int = 0,
        reached: int | None = None,
    ) -> None:
        """``topic_ids``: the incarnations of the topics that position and outputs belong to.

        ``done``: the offsets after ``position`` that former owners have finished. ``anew``: messages below
        this offset may be copies of messages that the topic had before it was recreated. ``reached``: the
        time of the row before ``position``, microseconds since 1970.
        """
        self._ends = ends
        self._reached = reached
        self._topic_ids = dict(topic_ids or {})
        self._slots: deque[Slot] = deque()
        self._done = {offset for offset in done if offset >= position}
        self._anew = anew
        while position in self._done:
            self._done.discard(position)
            position += 1
        self._position = position
        self._next = position

    @property
    def position(self) -> int:
        """The next offset that a new owner should read."""
        return self._position

    @property
    def anew(self) -> int:
        """The offset below which messages may be copies of those of a deleted topic of the same name."""
        return self._anew

    def span(self, offset: int) -> int:
        """The distance from the oldest unfinished message to ``offset``; 0 if all are finished."""
        return offset - self._position if self._slots else 0

    @property
    def reached(self) -> int | None:
        """The time of the row before the position."""
        return self._reached

    def admit(self, offset: int, time: int | None = None) -> Slot | None:
        """Add a message about a row of that time. None if it was already added: the consumer has read it
        twice. If a former owner has finished the message, its slot is done.
        """
        if offset < self._next:
            return None
        if not self._slots:
            self._position = offset  # nothing is in between, except for transaction markers
        slot = Slot(offset, offset in self._done, time)
        self._done.discard(offset)
        self._slots.append(slot)
        self._next = offset + 1
        if slot.done:
            self._advance()
        return slot

    def pass_over(self, end: int) -> None:
        """No message before ``end`` will be added any more."""
        if end > self._next:
            self._slots.append(Slot(end - 1, True, None))
            self._next = end
            self._advance()

    def finish(self, slot: Slot) -> None:
        """The message is published, dead-lettered, or known to be done."""
        slot.done = True
        self._advance()

    def commit(self) -> Commit:
        """The position, and metadata for the next owner."""
        outputs = dict(self._ends.current)
        finished = [offset for offset in self._done if offset >= self._next]
        for slot in self._slots:
            if slot.done:
                finished.append(slot.offset)
            else:
                outputs |= {topic: min(low, outputs.get(topic, low)) for topic, low in slot.lows.items()}
        known: dict[str, Any] = {"outputs": outputs, TOPIC_IDS: self._topic_ids}
        # Only a gap that `pass_over` has skipped can be further away.
        if near := [at for offset in finished if 0 <= (at := offset - self._position) < FURTHEST]:
            known["done"] = _bits(near)
        if self._position < self._anew:
            known["anew"] = self._anew
        return Commit(self._position, orjson.dumps(with_reached(known, self._reached)).decode())

    def _advance(self) -> None:
        while self._slots and self._slots[0].done:
            first = self._slots.popleft()
            self._position = first.offset + 1
            self._reached = first.time if first.time is not None else self._reached


class Known(NamedTuple):
    """What a commit tells the next owner.

    ``outputs``: for each topic, from which offset on there may be outputs that ``done`` does not count.
    Topics that were recreated since are omitted. ``anew``: see `CommitWindow`.
    """

    outputs: Mapping[str, int]
    done: frozenset[int]
    anew: int = 0


def known_from(commit: Commit, topic: str, topic_ids: Mapping[str, str]) -> Known | None:
    """What ``commit`` of a partition of ``topic`` tells. None if it tells nothing: there is no commit,
    another program wrote it (such as Kafka's own tools), or ``topic`` was recreated.
    """
    found = known_in(commit.metadata)
    ids = _part(found, TOPIC_IDS)
    if commit.offset < 0 or ids.get(topic) != topic_ids[topic] or found.get(_BEGINS):
        return None
    # Release 0.1 wrote "floors": no output of an uncommitted message has a lower offset.
    outputs = _part(found, "outputs") or _part(found, "floors")
    try:
        done = frozenset(commit.offset + at for at in _offsets(found.get("done", "")))
    except (ValueError, TypeError):
        return None
    anew = found.get("anew")
    return Known(
        {
            name: at
            for name, at in outputs.items()
            if isinstance(at, int) and ids.get(name) == topic_ids.get(name)
        },
        done,
        anew if isinstance(anew, int) else 0,
    )


def topics_made_anew(commits: Mapping[Partition, Commit], topic_ids: Mapping[str, str]) -> set[Partition]:
    """The partitions whose topic was recreated since they were worked on.

    Kafka deletes the commits of a topic with the topic. Then the commits of other partitions tell its id.
    """
    found = {partition: known_in(commit.metadata) for partition, commit in commits.items()}
    noted = {partition: _part(known, TOPIC_IDS) for partition, known in found.items()}
    others: dict[str, set[str]] = {}
    for ids in noted.values():
        for topic, topic_id in ids.items():
            others.setdefault(topic, set()).add(topic_id)
    anew = set()
    for partition in commits:
        topic, now = partition.topic, topic_ids[partition.topic]
        own = noted[partition].get(topic)
        known = {own} if own is not None else others.get(topic, set())
        if found[partition].get(_BEGINS) or known - {now}:
            anew.add(partition)
    return anew


def anew_commit(topic_ids: Mapping[str, str]) -> Commit:
    """The beginning of a partition whose topic was recreated, until its outputs have been read."""
    return Commit(0, orjson.dumps({TOPIC_IDS: topic_ids, _BEGINS: True}).decode())


def _bits(offsets: Iterable[int]) -> str:
    bits = 0
    for offset in offsets:
        bits |= 1 << offset
    return base64.b64encode(bits.to_bytes((bits.bit_length() + 7) // 8, "little")).decode()


def _offsets(bits: str) -> list[int]:
    number = int.from_bytes(base64.b64decode(bits, validate=True), "little")
    return [at for at in range(number.bit_length()) if number >> at & 1]


def _part(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = found.get(name)
    return part if isinstance(part, dict) else {}
