"""When a replay may take a place at the endpoint: after live calls, and not in a crowd.

A replay fills every place that there is. If its calls are all made at once they are answered at once, and
again, and again: then a live call finds no place for as long as an answer takes, and each live message
stands in the event loop behind a crowd. So replays leave some places free while live calls come, and
begin one after the other, at a rate a little above the one at which they are answered (as TCP is paced:
Aggarwal, Savage, Anderson, "Understanding the performance of TCP pacing", INFOCOM 2000).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from connectors.llm.pace import Pace

# One place in so many is kept free, where there are at least a few, for so long after a live call.
_KEPT, _FEW = 16, 4
_LIVE_SECONDS = 3.0
# Of the rate at which replays are answered: more, or a crowd would thin out the endpoint's work for good.
_GAIN = 1.25
# A timer that fires late is made up for, but no more than this.
_CATCH_UP = 0.003
# What answers took may be known from a slower time: pacing never costs more than this.
_MOST_APART = 0.25


class Behind:
    """The replays of one endpoint."""

    def __init__(self, pace: Pace, clock: Callable[[], float], wake: Callable[[], None]) -> None:
        """``wake`` is called when a replay that was told to wait may be asked for again."""
        self._pace = pace
        self._clock = clock
        self._wake = wake
        self._live_at = float("-inf")
        self._next = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def live_came(self) -> None:
        """A live call is made."""
        self._live_at = self._clock()

    @property
    def limit(self) -> int:
        """Requests that may be in flight, of all kinds, for a replay to be sent."""
        limit = self._pace.limit
        if limit < _FEW or self._clock() - self._live_at >= _LIVE_SECONDS:
            return limit
        return limit - -(-limit // _KEPT)

    def may_go(self, in_flight: int) -> bool:
        """Whether a replay may be sent beside ``in_flight`` others. If it is only too early, ``wake`` is
        called in time."""
        if in_flight >= self.limit:
            return False
        now = self._clock()
        if now < self._next:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._next - now, self._again)
            return False
        return True

    def went(self) -> None:
        """A replay is sent."""
        if self._pace.limit < _FEW:
            return  # no crowd
        apart = min(self._pace.latency / self._pace.limit / _GAIN, _MOST_APART)
        self._next = max(self._clock() - _CATCH_UP, self._next) + apart

    def close(self) -> None:
        """No more calls of ``wake``."""
        if self._timer is not None:
            self._timer.cancel()

    def _again(self) -> None:
        self._timer = None
        self._wake()
