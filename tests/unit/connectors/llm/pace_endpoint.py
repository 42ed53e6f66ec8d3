"""An endpoint with slots and a line, and workers that keep to their pace, on a virtual clock."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from connectors.llm.pace import Pace


@dataclass
class Endpoint:
    """``queue``: requests that may wait before the next one is refused. ``spread``: how much the time
    of one answer varies, as a share. ``metrics``: it tells once a second what runs and what waits."""

    slots: int
    seconds: float = 0.3
    spread: float = 0.05
    queue: float = math.inf
    metrics: bool = False
    tokens: Sequence[int] = (10,)
    running: int = 0
    line: list[tuple[int, float, int]] = field(default_factory=list)


class Run:
    """Workers that always have more to ask, for ``until`` seconds; then what happened."""

    def __init__(
        self,
        endpoint: Endpoint,
        until: float,
        *,
        workers: int = 1,
        most: int = 256,
        seed: int = 0,
        changes: Sequence[tuple[float, Callable[[Endpoint], object]]] = (),
    ) -> None:
        self.paces = [Pace(most) for _ in range(workers)]
        self.answered: list[tuple[float, int]] = []
        self.refused: list[float] = []
        self.seen: list[tuple[float, int, int]] = []  # time, waiting there, first worker's limit
        self._random = random.Random(seed)
        self._endpoint = endpoint
        self._in_flight = [0] * workers
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._now = 0.0
        for at, change in changes:
            self._at(at, lambda change=change: change(endpoint))
        if endpoint.metrics:
            self._at(0.0, self._tell)
        for worker in range(workers):
            self._fill(worker)
        self._go(until)

    def rate(self, begin: float, end: float, worker: int | None = None) -> float:
        """Answers a second."""
        return sum(begin <= at < end and (worker is None or worker == who) for at, who in self.answered) / (
            end - begin
        )

    def refusals(self, begin: float, end: float) -> float:
        """The share of requests that were refused."""
        refused = sum(begin <= at < end for at in self.refused)
        return refused / max(1.0, refused + self.rate(begin, end) * (end - begin))

    def waiting(self, begin: float, end: float) -> float:
        """Requests that waited at the endpoint, on average."""
        seen = [waiting for at, waiting, _ in self.seen if begin <= at < end]
        return sum(seen) / len(seen)

    def _at(self, when: float, what: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, what))  # type: ignore[arg-type]

    def _go(self, until: float) -> None:
        look = 0.0
        while self._events and self._events[0][0] <= until:
            self._now, _, what = heapq.heappop(self._events)
            while look <= self._now:
                self.seen.append((look, len(self._endpoint.line), self.paces[0].limit))
                look += 0.1
            what()

    def _fill(self, worker: int) -> None:
        while self._in_flight[worker] < self.paces[worker].limit:
            self._in_flight[worker] += 1
            sent, tokens = self._now, self._random.choice(self._endpoint.tokens)
            way = 0.001 + 0.001 * self._random.random()
            self._at(self._now + way, lambda s=sent, t=tokens: self._arrive(worker, s, t))

    def _arrive(self, worker: int, sent: float, tokens: int) -> None:
        there = self._endpoint
        if there.running < there.slots:
            self._begin(worker, sent, tokens)
        elif len(there.line) < there.queue:
            there.line.append((worker, sent, tokens))
        else:
            self._at(self._now + 0.001, lambda: self._refuse(worker))

    def _begin(self, worker: int, sent: float, tokens: int) -> None:
        there = self._endpoint
        there.running += 1
        seconds = there.seconds * (tokens + 5) / 15 * max(0.1, self._random.gauss(1, there.spread))
        self._at(self._now + seconds, lambda: self._done(worker, sent, tokens))

    def _done(self, worker: int, sent: float, tokens: int) -> None:
        there = self._endpoint
        there.running -= 1
        while there.line and there.running < there.slots:
            self._begin(*there.line.pop(0))
        pace = self.paces[worker]
        full = self._in_flight[worker] >= 0.9 * pace.limit
        self._in_flight[worker] -= 1
        pace.answered(self._now, sent, tokens, full)
        self.answered.append((self._now, worker))
        self._fill(worker)

    def _refuse(self, worker: int) -> None:
        self._in_flight[worker] -= 1
        self.paces[worker].refused(self._now, self._in_flight[worker])
        self.refused.append(self._now)
        self._at(self._now + 0.2 * self._random.random(), lambda: self._fill(worker))

    def _tell(self) -> None:
        there = self._endpoint
        for worker, pace in enumerate(self.paces):
            mine = self._in_flight[worker]
            pace.told(self._now, there.running, len(there.line), mine, mine >= 0.9 * pace.limit)
            self._fill(worker)
        self._at(self._now + 1.0, self._tell)
