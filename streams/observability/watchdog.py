"""The watchdog: ends a role that has work and makes no progress, with the reason, so that it is restarted.

Dependencies that are down are no reason: the role waits for them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from streams.core.errors import LabelstreamError

log = structlog.get_logger()

LOOK_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
# A look counts for no more: in a longer one the process was stopped, or the machine, and could do nothing.
LONGEST_LOOK_SECONDS = 10.0
EXIT_CODE = 75  # EX_TEMPFAIL: a restart may help


class StalledError(LabelstreamError):
    """A role makes no progress although it could."""


class Watchdog:
    """``progress`` changes with any progress; ``owes`` says what should be done, empty for nothing.

    ``owes`` asks the brokers and not the role, because a role that has lost track of its work would report
    nothing to do. It is called only while there is no progress; if it cannot be called, nothing is owed.
    """

    def __init__(
        self,
        progress: Callable[[], object],
        owes: Callable[[], Awaitable[str]],
        *,
        patience: float = PATIENCE_SECONDS,
        look: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._owes = owes
        self._patience = patience
        self._look = look
        self._clock = clock

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            StalledError: there was work all the time, and no progress.
        """
        last, waited, looked = self._progress(), 0.0, self._clock()
        while True:
            await asyncio.sleep(self._look)
            owed = await self._owed() if self._progress() == last else ""
            before, looked = looked, self._clock()
            waited = waited + min(looked - before, LONGEST_LOOK_SECONDS) if owed else 0.0
            if not owed:
                last = self._progress()
            elif waited > self._patience:
                raise StalledError(f"no progress for {waited:.0f} s: {owed}")

    async def _owed(self) -> str:
        try:
            return await self._owes()
        except LabelstreamError as error:
            log.debug("watchdog_cannot_ask", error=str(error))
            return ""
