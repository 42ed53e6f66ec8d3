"""Waiting in tests: for a condition, for as long as something still moves.

A busy machine makes everything late, by any factor. So a wait has no deadline of its own: it ends when its
condition holds, and gives up when its ``measure`` (offsets, rows, log sizes: what shows that work goes on)
has not changed for `PATIENCE` seconds. Without a measure, only the condition can change.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

# Also for calls that take a timeout and would otherwise hang: no promise, only an end.
PATIENCE = 300.0
# A pause between two looks is a fifth longer than the one before: what many tests look at costs CPU.
_LONGER, _LONGEST_PAUSE = 1.2, 0.7
_LOAD = Path("/proc/loadavg")


class Stalled(AssertionError):
    """Nothing moves any more, and the condition does not hold."""


class Watch:
    """Looks at a measure, and says when it has stood still for too long."""

    def __init__(self, what: Callable[[], str] | str, patience: float = PATIENCE) -> None:
        self._what = what
        self._patience = patience
        self._seen: Any = None
        self._since = time.monotonic()

    def look(self, measure: Any) -> None:
        """Raises :class:`Stalled`."""
        now = time.monotonic()
        if measure != self._seen:
            self._seen, self._since = measure, now
        elif now - self._since > self._patience:
            what = self._what if isinstance(self._what, str) else self._what()
            raise Stalled(
                f"nothing has moved for {self._patience:.0f} s, and still not: {what} (at {measure})"
            )


def until(
    condition: Callable[[], Any],
    what: Callable[[], str] | str = "the condition",
    *,
    measure: Callable[[], Any] = lambda: None,
    patience: float = PATIENCE,
    pause: float = 0.05,
) -> Any:
    """Wait until ``condition()`` is true, and return what it is. ``pause``: seconds after the first look."""
    watch = Watch(what, patience)
    while not (found := condition()):
        watch.look(measure())
        time.sleep(pause)
        pause = _longer(pause)
    return found


async def eventually(
    condition: Callable[[], Any | Awaitable[Any]],
    what: Callable[[], str] | str = "the condition",
    *,
    measure: Callable[[], Any] = lambda: None,
    patience: float = PATIENCE,
    pause: float = 0.02,
) -> Any:
    """As `until`, in a loop that goes on meanwhile; ``condition`` may be a coroutine function."""
    watch = Watch(what, patience)
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        watch.look(measure())
        await asyncio.sleep(pause)
        pause = _longer(pause)


def _longer(pause: float) -> float:
    return max(pause, min(_LONGER * pause, _LONGEST_PAUSE))


class MachineClock:
    """Seconds of a machine that has nothing else to do, for the few promises that are made in seconds.

    While more processes want to run than there are cores, a second counts for as much less.
    """

    def __init__(self) -> None:
        self._counted = 0.0
        self._last = time.monotonic()

    def seconds(self) -> float:
        """Since this clock was made. Look at it often: what counts is the load when it is looked at."""
        now = time.monotonic()
        self._counted += (now - self._last) / self._crowd()
        self._last = now
        return self._counted

    @staticmethod
    def _crowd() -> float:
        wanted = os.getloadavg()[0]  # of the last minute
        with contextlib.suppress(OSError):  # and those at this moment, where the system tells them
            wanted = max(wanted, int(_LOAD.read_text().split()[3].partition("/")[0]))
        return max(1.0, wanted / (os.cpu_count() or 1))
