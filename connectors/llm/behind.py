"""Decides when a replay may call the endpoint: after live calls, and at an even rate.

A replay uses every free slot. Calls that start together are answered together, again and again. Then a
live call finds no free slot for as long as an answer takes, and each live message waits in the event loop
behind many answers. So replays leave some slots free while live calls arrive, and start one after the
other, at a rate a little above the rate of their answers (like TCP pacing: Aggarwal, Savage, Anderson,
"Understanding the performance of TCP pacing", INFOCOM 2000).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from connectors.llm.pace import Pace

# One slot in so many is kept free, if there are at least a few, for so long after a live call.
_KEPT, _FEW = 16, 4
_LIVE_SECONDS = 3.0
# Relative to the rate of the replays' answers. It is above 1, or the endpoint would slowly become idle.
_GAIN = 1.25
# Delay of a late timer that is made up for, at most.
_CATCH_UP = 0.003
# The known latency may come from a slower time: pacing never costs more than this.
_MOST_APART = 0.25


class Behind:
    """The replay calls to one endpoint."""

    def __init__(self, pace: Pace, clock: Callable[[], float], wake: Callable[[], None]) -> None:
        """``wake`` is called when a replay that had to wait may try again."""
        self._pace = pace
        self._clock = clock
        self._wake = wake
        self._live_at = float("-inf")
        self._next = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def live_came(self) -> None:
        """A live call was made."""
        self._live_at = self._clock()

    @property
    def limit(self) -> int:
        """A replay is sent only if fewer requests, of all kinds, are in flight."""
        limit = self._pace.limit
        if limit < _FEW or self._clock() - self._live_at >= _LIVE_SECONDS:
            return limit
        return limit - -(-limit // _KEPT)

    def may_go(self, in_flight: int) -> bool:
        """Whether a replay may be sent beside ``in_flight`` other requests. If it is only too early, ``wake``
        is called in time.
        """
        if in_flight >= self.limit:
            return False
        now = self._clock()
        if now < self._next:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._next - now, self._again)
            return False
        return True

    def went(self) -> None:
        """A replay was sent."""
        if self._pace.limit < _FEW:
            return  # calls are few enough
        apart = min(self._pace.latency / self._pace.limit / _GAIN, _MOST_APART)
        self._next = max(self._clock() - _CATCH_UP, self._next) + apart

    def close(self) -> None:
        """Stop calling ``wake``."""
        if self._timer is not None:
            self._timer.cancel()

    def _again(self) -> None:
        self._timer = None
        self._wake()
