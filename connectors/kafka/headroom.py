"""How much may be written before readers are so far behind that retention takes messages unread.

What is written now must be read before it is older than the topic keeps it: at the pace of its readers no
more may wait than they read in a share of the retention. That share of the topic's size is a bound as well,
and so is the age of the oldest message that waits. The pace is learned over a time that grows with the
retention, and only while there is something to read: an hour's outage means nothing to a topic that keeps a
month, and an idle reader is not a slow one.
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

SHARE = 0.5  # of what the topic keeps
# Enough to keep a reader at work from one look to the next, in each partition.
LEAST = 20
_RESUME = 0.75  # of a bound: writing goes on when no more than that waits
_FIRST_PACE = 1.0  # messages a second of a partition, until it is known
_MESSAGE_BYTES = 1_000.0  # of a message, until it is known
_LOOKS_A_SHARE = 20
_LEAST_SECONDS, _MOST_SECONDS = 0.25, 5.0
_CALM_LOOKS = 5

_Key = tuple[str, Partition]


class Positions(Protocol):
    """Where the readers are: `connectors.kafka.reader_positions.ReaderPositions`."""

    async def retention(self) -> dict[str, Retention]: ...

    async def look(self, share: float) -> dict[tuple[str, Partition], ReaderPosition]: ...


@dataclass
class _Reader:
    """One group in one partition, as it was seen last. ``done`` and ``busy``: messages that it read in how
    many seconds, old ones fading."""

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


class Headroom:
    """Implements `streams.ports.kafka.Headroom`."""

    def __init__(
        self,
        positions: Positions,
        *,
        most: int | None = None,
        size_of: Callable[[str], float | None] = lambda topic: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``most``: messages of all partitions that may wait for the slowest group. ``size_of``: the bytes of
        a topic's messages on average, where it is known."""
        self.looks = 0
        self._positions = positions
        self._most = most if most is not None else float("inf")
        self._size_of = size_of
        self._clock = clock
        self._readers: dict[_Key, _Reader] = {}
        self._full: set[tuple[str, str]] = set()  # topics and groups for which all waits that may
        self._held: frozenset[Partition] = frozenset()
        self._wrote = 0
        self._looked = float("-inf")
        self._period = _LEAST_SECONDS
        self._unseen = ""  # why nobody knows where the readers are
        self._unbounded = False
        self._said: dict[tuple[str, str], tuple[WaitsFor, int]] = {}  # and looks since it was last so

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
        # So much weighs what is not known yet, and so fast fades what was.
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
        """Messages of each topic that wait for each of its groups."""
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
