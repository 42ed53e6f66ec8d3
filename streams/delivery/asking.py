"""Calls a step for one message until it decides."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from streams.core.outcomes import Done, Reject, Retry
from streams.delivery.in_flight import Work
from streams.delivery.routes import Flow, Limits

log = structlog.get_logger()


class Asking:
    """Calls the steps of one delivery. ``counts``: its counts."""

    def __init__(
        self,
        flow: Flow,
        limits: Limits,
        counts: Counter[str],
        *,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._flow = flow
        self._limits = limits
        self._counts = counts
        self._sleep = sleep

    async def ask(self, work: Work) -> Done[Any] | Reject | None:
        """Call the step until it decides, or the result is unwanted. Only failures of this message while
        others succeed count against it. An outage does not, however long it takes.
        """
        assert work.message is not None
        name = work.route.name
        attempts, pause = 0, 0.0
        while not self._flow.skips(work.record, work.message):
            successes = self._counts[f"done:{name}"]
            try:
                outcome = await work.route.step(work.message)
            except Exception as error:
                log.exception("step_failed", step=name)
                outcome = Retry(1.0, f"unexpected {type(error).__name__}: {error}", suspect=True)
            if not isinstance(outcome, Retry):
                return outcome
            self._counts[f"retries:{name}"] += 1
            if work.span is not None:
                work.span.happened("retry", suspect=outcome.suspect)
            pause = min(max(outcome.after, pause * 2, 0.2), max(self._limits.longest_pause, outcome.after))
            await self._sleep(pause * random.uniform(0.8, 1.2))
            if outcome.suspect and self._counts[f"done:{name}"] > successes:
                attempts += 1
                if attempts >= self._limits.attempts:
                    return Reject("gave-up", outcome.reason, attempts)
        return None
