"""How much may be written before readers are so far behind that retention removes unread messages.

Every message must be read before the topic's retention removes it. So no more messages may wait than the
readers can read, at their speed, in a share of the retention time. The same share of the topic's maximum size
is a bound too, and so is the age of the oldest waiting message. The speed is averaged over a time that grows
with the retention, and only while there is something to read: an hour's outage means little for a topic that
keeps a month, and an idle reader is not a slow one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import structlog

from connectors.kafka.reader_positions import ReaderPosition, Retention
from streams.core.errors import ConfigurationError, LabelstreamError
from streams.core.records import Partition
from streams.ports.kafka import WaitsFor

log = structlog.get_logger()

SHARE = 0.5  # of the topic's retention
# Enough for each partition to keep a reader busy between two checks.
LEAST = 20
_RESUME = 0.75  # of a bound: writing resumes when no more than that waits
_FIRST_PACE = 1.0  # messages a second of a partition, until it is known
_MESSAGE_BYTES = 1_000.0  # of a message, until it is known
_LOOKS_A_SHARE = 20
_LEAST_SECONDS, _MOST_SECONDS = 0.25, 5.0
_CALM_LOOKS = 5

_Key = tuple[str, Partition]


class Positions(Protocol):
    """The positions of the readers: `connectors.kafka.reader_positions.ReaderPositions`."""

    async def retention(self) -> dict[str, Retention]: ...

    async def look(self, share: float) -> dict[tuple[str, Partition], ReaderPosition]: ...


@dataclass
class _Reader:
    """The last known state of one group in one partition. ``done`` and ``busy``: messages that it read, and
    the seconds that it took, with decreasing weight of old values.
    """

    at: ReaderPosition
    done: float
    busy: float
    limit: float
    held: bool = False

    @property
    def pace(self) -> float:
        return self.done / self.busy

    @property
    def left(self) -> float:
        return self.limit - self.at.unread


class ReaderHeadroom:
    """Implements `streams.ports.kafka.Headroom`."""

    def __init__(
        self,
        positions: Positions,
        *,
        most: int | None = None,
        size_of: Callable[[str], float | None] = lambda topic: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``most``: messages of all partitions that may wait for the slowest group. ``size_of``: the mean
        size in bytes of a topic's messages, if known.
        """
        self.looks = 0
        self._positions = positions
        self._most = most if most is not None else float("inf")
        self._size_of = size_of
        self._clock = clock
        self._readers: dict[_Key, _Reader] = {}
        self._full: set[tuple[str, str]] = set()  # topics and groups with as many waiting messages as allowed
        self._held: frozenset[Partition] = frozenset()
        self._wrote = 0
        self._looked = float("-inf")
        self._period = _LEAST_SECONDS
        self._unseen = ""  # why the readers' positions are unknown
        self._unbounded = False
        # And the number of checks since it last applied.
        self._said: dict[tuple[str, str], tuple[WaitsFor, int]] = {}

    @property
    def waits(self) -> list[WaitsFor]:
        return [wait for wait, _ in self._said.values()]

    def left(self) -> int:
        if self._unbounded:
            return 2**31
        if not self._readers or self._full or self._held:
            return 0
        left = min(reader.left for reader in self._readers.values())
        left = min(left, self._most - max(self._unread().values()))
        return max(0, int(min(left - self._wrote, 2**31)))

    def full(self, partition: Partition) -> bool:
        return partition in self._held and not self._unbounded

    def wrote(self, count: int) -> None:
        self._wrote += count
        for reader in self._readers.values():
            reader.held = reader.held or reader.left <= self._wrote
        self._hold()
        self._full |= {key for key, unread in self._unread().items() if unread + self._wrote >= self._most}

    async def refresh(self, *, now: bool = False, pending: int = 0) -> None:
        since = self._clock() - self._looked
        if since < (_LEAST_SECONDS if now else self._period):
            return
        self._looked = self._clock()
        try:
            retention = await self._positions.retention()
            found = await self._positions.look(SHARE)
        except ConfigurationError as error:
            if not self._unbounded:
                log.warning("readers_not_seen", reason=str(error), setting=error.setting, fix=error.fix)
            self._unbounded = True
            return
        except LabelstreamError as error:
            if str(error) != self._unseen:
                log.warning("readers_not_seen", reason=str(error))
            self._unseen = str(error)
            return
        self._unseen, self._unbounded, self._wrote = "", False, pending
        self.looks += 1
        keeps = [one.seconds for one in retention.values() if one.seconds is not None]
        share = SHARE * min(keeps, default=float("inf"))
        self._period = min(max(share / _LOOKS_A_SHARE, _LEAST_SECONDS), _MOST_SECONDS)
        for key, at in found.items():
            self._saw(key, at, since, retention.get(key[1].topic, Retention()))
        self._hold()
        self._full = {
            key
            for key, unread in self._unread().items()
            if unread >= (self._most * _RESUME if key in self._full else self._most)
        }
        self._say()

    def _saw(self, key: _Key, at: ReaderPosition, seconds: float, retention: Retention) -> None:
        reader = self._readers.get(key)
        # The initial weight, and the speed at which old values lose theirs.
        memory = max(SHARE * (retention.seconds or 86_400.0) / 2, 2.0)
        if reader is None:
            reader = self._readers[key] = _Reader(at, _FIRST_PACE * memory, memory, float("inf"))
        else:
            done = at.next - reader.at.next
            if done >= 0 and reader.at.unread and (at.unread or done > reader.pace * seconds):
                fades = max(0.0, 1 - seconds / memory)
                reader.done, reader.busy = reader.done * fades + done, reader.busy * fades + seconds
            reader.at = at
        reader.limit = float("inf")
        if retention.seconds is not None:
            reader.limit = reader.pace * SHARE * retention.seconds
        if retention.size is not None:
            size = self._size_of(key[1].topic) or _MESSAGE_BYTES
            reader.limit = min(reader.limit, SHARE * retention.size / size)
        reader.limit = max(reader.limit, LEAST)
        bound = reader.limit * _RESUME if reader.held else reader.limit
        reader.held = at.late or at.unread >= bound

    def _hold(self) -> None:
        self._held = frozenset(where for (_, where), reader in self._readers.items() if reader.held)

    def _unread(self) -> dict[tuple[str, str], int]:
        """The waiting messages of each topic, by group."""
        found: dict[tuple[str, str], int] = {}
        for (group, where), reader in self._readers.items():
            found[where.topic, group] = found.get((where.topic, group), 0) + reader.at.unread
        return found

    def _say(self) -> None:
        now = {(wait.topic, wait.group): wait for wait in self._waiting()}
        for key, wait in now.items():
            if key not in self._said:
                log.warning("waits_for_readers", **wait._asdict())
            self._said[key] = (wait, 0)
        for key in [key for key in self._said if key not in now]:
            wait, calm = self._said[key]
            self._said[key] = (wait, calm + 1)
            if calm + 1 >= _CALM_LOOKS:
                del self._said[key]
                log.info("readers_keep_up", topic=wait.topic, group=wait.group)

    def _waiting(self) -> Iterable[WaitsFor]:
        held, late = set(self._full), set()
        for (group, where), reader in self._readers.items():
            if reader.held:
                held.add((where.topic, group))
            if reader.at.late:
                late.add((where.topic, group))
        for key, unread in self._unread().items():
            if key in held:
                yield WaitsFor(*key, unread=unread, why="age" if key in late else "messages")
