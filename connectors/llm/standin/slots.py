"""The stand-in's slots and its queue, and counters of its requests."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field


@dataclass
class Stats:
    """Counters since the start. ``texts`` counts the calls for each text (by its digest) and kind."""

    calls: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    texts: dict[str, Counter[str]] = field(default_factory=dict)
    systems: set[str] = field(default_factory=set)
    running: int = 0
    most_in_flight: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Slots:
    """A number of slots; later requests wait in a queue."""

    def __init__(self, slots: int, stats: Stats) -> None:
        self._slots = slots
        self._free = slots  # below zero: that many have to finish before another one begins
        self._stats = stats
        self.waiting: deque[asyncio.Future[None]] = deque()

    @property
    def full(self) -> bool:
        """Whether the next request has to wait."""
        return self._free <= 0

    def resize(self, slots: int) -> None:
        """Change the number of slots; requests in a removed slot run to their end."""
        self._free += slots - self._slots
        self._slots = slots
        while self._free > 0 and self.waiting:
            self._free -= 1
            self._pass_on()

    async def hold(self, seconds: float) -> None:
        """Take a slot for ``seconds``; the queue is first in, first out."""
        if self._free > 0:
            self._free -= 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._pass_on()
                elif turn in self.waiting:  # otherwise whoever freed a slot has skipped it
                    self.waiting.remove(turn)
                raise
        self._stats.running += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._stats.running -= 1
            self._pass_on()

    def _pass_on(self) -> None:
        while self._free >= 0 and self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
