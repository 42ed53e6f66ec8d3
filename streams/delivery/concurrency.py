"""Limits how many messages each step may process at a time, live ones and replays separately."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set

from streams.core.codec import REPLAY_JOB
from streams.core.records import Record
from streams.delivery.in_flight import Work
from streams.delivery.replay_throttle import Leftover
from streams.delivery.routes import Limits, Route

_SENDING = 32  # so many more messages than a step may process may wait for Kafka's confirmation


class Places:
    """The counters of one delivery. Live messages and replays of a step are two kinds, and counted
    separately.
    """

    def __init__(self, limits: Limits, replays: Set[str]) -> None:
        """``replays``: the topics whose messages get the capacity that live ones leave."""
        self._limits = limits
        self._replays = replays
        self._asking: Counter[str] = Counter()  # in a step, by kind
        self._resting: Counter[str] = Counter()  # in a step, waiting before another try
        self._sending: Counter[str] = Counter()  # decided, and not confirmed
        self._leftover = Leftover()

    def full(self, record: Record, route: Route) -> bool:
        """Whether the step cannot take the message now."""
        kind = self._kind(record, route)
        most = self._limits.in_flight[route.name]
        if self._asking[kind] >= (most if kind == route.name else self._leftover.allowed(most)):
            return True
        # As many again may wait before another try: they use no slot of the endpoint meanwhile.
        if self._resting[kind] >= most:
            return True
        # Messages that are being sent to Kafka do not count: otherwise the endpoint would be idle meanwhile.
        return self._sending[kind] >= most + _SENDING

    def taken(self, record: Record, route: Route) -> str:
        """The step takes the message; returns the kind that it counts for."""
        kind = self._kind(record, route)
        self._asking[kind] += 1
        if kind == route.name and record.header(REPLAY_JOB) is None:
            self._leftover.live_came()
        return kind

    def rests(self, work: Work, resting: bool) -> None:
        """The step waits before it tries the message again, or goes on."""
        if work.asking and work.resting != resting:
            work.resting = resting
            moved = 1 if resting else -1
            self._asking[work.kind] -= moved
            self._resting[work.kind] += moved

    def decided(self, work: Work) -> None:
        """The step has decided, and can take another message."""
        self.rests(work, False)
        work.asking = False
        self._asking[work.kind] -= 1
        self._sending[work.kind] += 1

    def left(self, work: Work) -> None:
        """The message is finished."""
        self.rests(work, False)
        (self._asking if work.asking else self._sending)[work.kind] -= 1

    def _kind(self, record: Record, route: Route) -> str:
        return f"{route.name} again" if record.topic in self._replays else route.name
