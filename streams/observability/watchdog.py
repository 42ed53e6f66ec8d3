"""The watchdog: a role that owes work and makes no progress ends with the reason, and is started anew.

Its dependencies being away is no reason: that is waited out, and said elsewhere.
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
EXIT_CODE = 75  # EX_TEMPFAIL: worth starting again


class StalledError(LabelstreamError):
    """A role has stopped making progress although it could."""


class Watchdog:
    """``progress`` changes whenever anything moves; ``owes`` says what should move, empty for nothing.

    ``owes`` asks the brokers, not the role: one that has lost track of its work owes nothing by its own
    account. It is asked only while nothing moves; if it cannot be asked, nothing is owed.
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
            StalledError: something was owed all the time, and nothing moved.
        """
        last, since = self._progress(), self._clock()
        while True:
            await asyncio.sleep(self._look)
            now = self._progress()
            if now != last or not (owed := await self._owed()):
                last, since = self._progress(), self._clock()
            elif self._clock() - since > self._patience:
                raise StalledError(f"no progress for {self._clock() - since:.0f} s: {owed}")

    async def _owed(self) -> str:
        try:
            return await self._owes()
        except LabelstreamError as error:
            log.debug("watchdog_cannot_ask", error=str(error))
            return ""
