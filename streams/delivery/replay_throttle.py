"""Limits how many replays may be in flight to what this process has time for beside live messages.

If answers are cached or fast, a replay uses all of this process's time, and every live message waits behind
many others at each of its steps. There are two signs: the event loop wakes late, and the process is busy most
of the time while live messages arrive. A queue grows without bound when its server is nearly fully used, so
some of the time is left idle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_TICK_SECONDS = 0.05
_LATE_SECONDS = 0.015
_LEAST = 2.0
_IDLE_TICKS = 40
# Of a core: the interpreter runs one thread at a time. Averaged over some ticks.
_BUSY = 0.7
_SMOOTH = 0.2
_LIVE_SECONDS = 3.0


class Leftover:
    """Allows fewer replays when the process is busy, and more when it is not."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._allowed = 8.0
        self._most = _LEAST
        self._live_at = float("-inf")
        self._busy = 0.0
        self._looked: tuple[float, float] | None = None
        self._idle = 0
        self._ticking = False

    def live_came(self) -> None:
        """A live message is started."""
        self._live_at = self._clock()

    def allowed(self, most: int) -> int:
        """The number that may be in flight now, at most ``most``. Starts to observe the running loop."""
        self._idle = 0
        self._most = max(self._most, float(most))
        if not self._ticking:
            self._ticking = True
            self._looked = None
            self._wait()
        return min(most, int(self._allowed))

    def beside_live(self, most: int) -> int:
        """The same for what is caused by live messages, so that there always are some."""
        self.live_came()
        return self.allowed(most)

    def noticed(self, late: float) -> None:
        """The loop woke ``late`` seconds too late."""
        now, cpu = self._clock(), self._cpu_clock()
        if self._looked is not None and now > self._looked[0]:
            share = (cpu - self._looked[1]) / (now - self._looked[0])
            self._busy += _SMOOTH * (share - self._busy)
        self._looked = now, cpu
        if late > _LATE_SECONDS:
            self._allowed *= 0.7
        elif self._busy > _BUSY and now - self._live_at < _LIVE_SECONDS:
            self._allowed *= 0.95
        else:
            self._allowed *= 1.05
        self._allowed = min(max(self._allowed, _LEAST), self._most)

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(_TICK_SECONDS, self._tick, loop.time() + _TICK_SECONDS)

    def _tick(self, due: float) -> None:
        self.noticed(asyncio.get_running_loop().time() - due)
        self._idle += 1
        self._ticking = self._idle < _IDLE_TICKS
        if self._ticking:
            self._wait()
