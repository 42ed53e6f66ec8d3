"""Notices when another server, or another model, answers at an endpoint than before."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import structlog

from connectors.llm.server import Look, Server, server_at
from streams.core.background import apart
from streams.core.context import of_no_row

log = structlog.get_logger()

# The longest that single failures to reach it go without another look.
_LOOK_SECONDS = 30.0


class ServerWatch:
    """Looks once the endpoint answers, and again once it does so after it was unreachable or away."""

    def __init__(
        self,
        look: Look,
        changed: Callable[[], None],
        *,
        name: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``changed`` is called when the server is another one. ``name``: of the endpoint, for the log."""
        self.server: Server | None = None  # as it was when it was last looked at
        self.looking: asyncio.Task[None] | None = None
        self._look = look
        self._changed = changed
        self._name = name
        self._clock = clock
        self._due = -math.inf  # inf: there is no reason to look at it again
        self._looked = -math.inf

    def unreachable(self) -> None:
        """A request did not reach it: it may have been started anew."""
        self._due = min(self._due, self._looked + _LOOK_SECONDS)

    def away(self) -> None:
        """It is away: look as soon as it is back."""
        self._due = -math.inf

    def answered(self, model: str) -> None:
        """It answers; look at it, beside the requests, if there is reason to."""
        if self._clock() >= self._due and (self.looking is None or self.looking.done()):
            self._due, self._looked = math.inf, self._clock()
            self.looking = apart(self._look_again(model))

    async def close(self) -> None:
        """Stop looking."""
        if self.looking is not None:
            self.looking.cancel()
            await asyncio.gather(self.looking, return_exceptions=True)

    async def _look_again(self, model: str) -> None:
        found = await server_at(self._look, model)
        if not found.models:
            return  # it does not tell
        before, self.server = self.server, found
        if before is not None and found.identity != before.identity:
            self._changed()
            of_no_row(
                log.warning,
                "another server or model answers at the endpoint: what it takes is found out again",
                endpoint=self._name,
                before=before.told,
                now=found.told,
            )
