"""How many replays may be at work at once: what the event loop has time for beside live messages.

Where answers are remembered, a replay costs no call but all of this process's time, and every live message
would wait for its turn in a crowd. A loop that wakes late is the sign of a crowd.
"""

from __future__ import annotations

import asyncio

_TICK_SECONDS = 0.05
_LATE_SECONDS = 0.015
_LEAST, _MOST = 2.0, 4096.0
_IDLE_TICKS = 40


class Leftover:
    """Fewer when the loop is late, more when it is not."""

    def __init__(self) -> None:
        self._allowed = 8.0
        self._idle = 0
        self._ticking = False

    def allowed(self, most: int) -> int:
        """So many may be at work now, at most ``most``. From now on the running loop is watched."""
        self._idle = 0
        if not self._ticking:
            self._ticking = True
            self._wait()
        return min(most, int(self._allowed))

    def noticed(self, late: float) -> None:
        """The loop woke ``late`` seconds after it should have."""
        if late > _LATE_SECONDS:
            self._allowed = max(_LEAST, self._allowed * 0.7)
        else:
            self._allowed = min(self._allowed * 1.1, _MOST)

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(_TICK_SECONDS, self._tick, loop.time() + _TICK_SECONDS)

    def _tick(self, due: float) -> None:
        self.noticed(asyncio.get_running_loop().time() - due)
        self._idle += 1
        self._ticking = self._idle < _IDLE_TICKS
        if self._ticking:
            self._wait()
