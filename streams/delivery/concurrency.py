"""Limits how many messages each step may process at a time, live ones and replays separately."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set

from streams.core.codec import REPLAY_JOB
from streams.core.records import Partition, Record
from streams.delivery.in_flight import Work
from streams.delivery.replay_throttle import Leftover
from streams.delivery.routes import Limits, Route
from streams.ports.kafka import Sender

# So many more messages than a step may process may wait for Kafka's confirmation. Those that wait for a
# partition that cannot be written do not count, or they would keep all others out.
_SENDING = 32


class Places:
    """The counters of one delivery. Live messages and replays of a step are two kinds, and counted
    separately.
    """

    def __init__(self, limits: Limits, replays: Set[str], sender: Sender) -> None:
        """``replays``: the topics whose messages get the capacity that live ones leave. ``sender`` knows
        which output partitions cannot be written.
        """
        self._limits = limits
        self._replays = replays
        self._sender = sender
        self._asking: Counter[str] = Counter()  # in a step, by kind
        self._resting: Counter[str] = Counter()  # in a step, waiting before another try
        self._sending: Counter[str] = Counter()  # decided, and not confirmed
        self._sending_to: dict[str, Counter[Partition]] = {}  # the same by output partition
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
        sending = self._sending[kind]
        if sending >= most + _SENDING:
            outages = self._sender.outages
            sending -= sum(count for where, count in self._sending_to[kind].items() if where in outages)
        return sending >= most + _SENDING

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

    def paused(self, work: Work) -> None:
        """The message waits for another one: the step can take one more meanwhile."""
        work.asking = False
        self._asking[work.kind] -= 1

    def resumed(self, work: Work) -> None:
        """It goes on."""
        work.asking = True
        self._asking[work.kind] += 1

    def decided(self, work: Work, output: Partition | None) -> None:
        """The step has decided, and can take another message. ``output``: where the result goes, None for
        nowhere.
        """
        self.rests(work, False)
        work.asking = False
        self._asking[work.kind] -= 1
        if output is not None:
            work.output = output
            self._sending[work.kind] += 1
            self._sending_to.setdefault(work.kind, Counter())[output] += 1

    def left(self, work: Work) -> None:
        """The message is finished."""
        self.rests(work, False)
        if work.asking:
            self._asking[work.kind] -= 1
        elif work.output is not None:
            self._sending[work.kind] -= 1
            to = self._sending_to[work.kind]
            to[work.output] -= 1
            if not to[work.output]:
                del to[work.output]

    def _kind(self, record: Record, route: Route) -> str:
        return f"{route.name} again" if record.topic in self._replays else route.name
