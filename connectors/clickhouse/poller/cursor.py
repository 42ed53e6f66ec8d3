"""The poller's cursor: how far it has read, and where its look-back window begins on the topics that it
writes.

After each confirmed page the watermark moves; rows that may be read again are within the look-back window
before it. For each partition that the poller writes, the cursor has an offset at or below the first message
of that window. The next poller reads from there which rows were published, by identity.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.core.records import Partition
from streams.ports.kafka import Tail

# The cursor lists at most so many rows with future times; with more, the window begins before them.
MOST_AHEAD = 5_000
_MOST_CHUNKS = 1_000
_RECENT_CURSORS = 100


class Cursor(BaseModel):
    """The value of a source table (the key) on `esk.cursor`. Times in microseconds since 1970.

    ``floor``: rows before it are never read. ``coarse``: how much later than its time a row may be written.
    ``starts``: per topic and partition. ``topic_ids``: the incarnations that the offsets belong to.
    ``ahead``: marks of rows that are dated in the future.
    ``timeless``: digests of rows without a time, which are dead letters.
    ``generations``: of `PRIVACY_SECRET`, with which rows were ever published; 0: without it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    watermark: int
    floor: int | None = None
    coarse: int = 0
    starts: dict[str, dict[int, int]] = Field(default_factory=dict)
    topic_ids: dict[str, str] = Field(default_factory=dict)
    ahead: list[str] = Field(default_factory=list)
    timeless: list[str] = Field(default_factory=list)
    generations: list[int] = Field(default_factory=list)

    def encode(self) -> bytes:
        """For the topic."""
        return orjson.dumps(self.model_dump(), option=orjson.OPT_NON_STR_KEYS)

    @classmethod
    def decode(cls, value: bytes | None) -> Cursor | None:
        """The inverse; None if it is no cursor."""
        try:
            return cls.model_validate_json(value or b"")
        except ValidationError:
            return None


async def read_cursor(tail: Tail, topic: str, source: str) -> Cursor | None:
    """The newest cursor of the table ``source`` on ``topic``; None if no poller has saved one.

    Raises:
        UnavailableError, AccessError.
    """
    first, end = await tail.bounds(topic, 0)
    for start in sorted({max(first, end - _RECENT_CURSORS), first}, reverse=True):
        found: Cursor | None = None
        async for records in tail.read(topic, 0, start):
            for record in records:
                if record.key == source.encode():
                    found = Cursor.decode(record.value) or found
        if found is not None:
            return found
    return None


class WindowStarts:
    """Where the look-back window begins on each partition that the poller writes."""

    def __init__(self, ends: Mapping[Partition, int]) -> None:
        """``ends``: the partitions' first unused offsets, for those without remembered messages."""
        self._ends = dict(ends)
        # Runs of messages: first offset, newest time, and newest time limited to when it was written.
        self._runs: dict[Partition, deque[tuple[int, int, int]]] = {p: deque() for p in ends}

    def add(self, where: Partition, first: int, last: int, newest: int, now: int) -> None:
        """Messages ``first`` to ``last`` were written; the newest row among them has the time ``newest``."""
        runs = self._runs[where]
        runs.append((first, newest, min(newest, now)))
        self._ends[where] = max(self._ends[where], last + 1)
        if len(runs) > _MOST_CHUNKS:
            every = list(runs)
            self._runs[where] = deque(
                (a[0], max(a[1], b[1]), max(a[2], b[2]))
                for a, b in zip(every[::2], [*every[1::2], every[-1]], strict=False)
            )

    def remembers(self, topic: str) -> bool:
        """Whether the last window had messages of ``topic``."""
        return any(runs for where, runs in self._runs.items() if where.topic == topic)

    def at(self, begin: int, *, ahead_named: bool) -> dict[str, dict[int, int]]:
        """The starts for a window that begins at ``begin``. ``ahead_named``: the cursor lists future rows, so
        they need not be found on the topic.
        """
        starts: dict[str, dict[int, int]] = {}
        for where, runs in self._runs.items():
            while runs and max(runs[0][1:]) < begin:
                runs.popleft()
            time = 2 if ahead_named else 1
            first = next((run[0] for run in runs if run[time] >= begin), self._ends[where])
            starts.setdefault(where.topic, {})[where.partition] = first
        return starts
