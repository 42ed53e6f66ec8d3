"""The places that each step has: how many messages it may work on at once, live ones and replays apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set

from streams.core.codec import REPLAY_JOB
from streams.core.records import Record
from streams.delivery.in_flight import Work
from streams.delivery.replay_throttle import Leftover
from streams.delivery.routes import Limits, Route

_SENDING = 32  # so many more than a step has places may wait for Kafka's confirmation


class Places:
    """Counts for one delivery. Live messages and replays of a step are counted apart: two kinds."""

    def __init__(self, limits: Limits, replays: Set[str]) -> None:
        """``replays``: the topics whose messages get what live ones leave."""
        self._limits = limits
        self._replays = replays
        self._asking: Counter[str] = Counter()  # with a step, by kind
        self._sending: Counter[str] = Counter()  # decided, and not confirmed
        self._leftover = Leftover()

    def full(self, record: Record, route: Route) -> bool:
        """Whether the step has no place for the message now."""
        kind = self._kind(record, route)
        most = self._limits.in_flight[route.name]
        if self._asking[kind] >= (most if kind == route.name else self._leftover.allowed(most)):
            return True
        # What is on its way to Kafka takes no place: the endpoint would stand idle for as long.
        return self._sending[kind] >= most + _SENDING

    def taken(self, record: Record, route: Route) -> str:
        """The message has a place; returns among which."""
        kind = self._kind(record, route)
        self._asking[kind] += 1
        if kind == route.name and record.header(REPLAY_JOB) is None:
            self._leftover.live_came()
        return kind

    def decided(self, work: Work) -> None:
        """Another message may have its place with the step."""
        work.asking = False
        self._asking[work.kind] -= 1
        self._sending[work.kind] += 1

    def left(self, work: Work) -> None:
        """It is no longer at work."""
        (self._asking if work.asking else self._sending)[work.kind] -= 1

    def _kind(self, record: Record, route: Route) -> str:
        return f"{route.name} again" if record.topic in self._replays else route.name
