"""Reports why nothing is published of a source table that has rows."""

from __future__ import annotations

import time
from collections import Counter
from typing import Protocol

import structlog

from connectors.clickhouse.source.diagnosis import POLL_START
from streams.core.errors import ConfigurationError

log = structlog.get_logger()

_EACH_SECONDS = 20.0


class Explains(Protocol):
    """The part of the source table that is needed here."""

    async def why_nothing(self, since: int | None) -> ConfigurationError | None:
        """Why no row from ``since`` on is found; None if the table is empty."""


class UnreadSource:
    """``problem``: why nothing was published so far; empty without a reason."""

    def __init__(self, source: Explains, counts: Counter[str], remembered: int) -> None:
        """``counts``: the poller's. ``remembered``: how many rows were published before."""
        self.problem = ""
        self._source = source
        self._counts = counts
        self._before = Counter(counts)
        self._remembered = remembered
        self._asked_at = float("-inf")
        self._waits = ""

    async def check(self, since: int | None) -> None:
        """Call it after each poll. ``since``: where reading begins, microseconds since 1970.

        Raises:
            UnavailableError, AccessError: the source could not be asked.
        """
        new = self._counts - self._before
        if not new["read"]:
            if time.monotonic() - self._asked_at > _EACH_SECONDS:
                self._asked_at = time.monotonic()
                self._report(await self._source.why_nothing(since))
            return
        left_out = {key.split(":")[1]: n for key, n in new.items() if key.startswith("skipped:")}
        published = self._remembered or new["published"] or any(key.startswith("dead_letters") for key in new)
        self._report(_all_left_out(left_out) if left_out and not published else None)

    def _report(self, why: ConfigurationError | None) -> None:
        if why is not None and why.setting == POLL_START:
            # The setting asks for it, so it is no problem.
            why, waits = None, str(why)
            if waits != self._waits:
                self._waits = waits
                log.info("waiting for rows", reason=waits)
        problem = str(why or "")
        if problem != self.problem and why is not None:
            log.warning(
                "nothing is published of the source table", reason=problem, setting=why.setting, fix=why.fix
            )
        elif problem != self.problem:
            log.info("rows of the source table are published")
        self.problem = problem


def _all_left_out(reasons: dict[str, int]) -> ConfigurationError:
    counted = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    return ConfigurationError(
        f"all rows that were read are left out: {counted}",
        setting="CLICKHOUSE_TEXT_COLUMN",
        fix="name the column with the query's text; texts of at most MIN_TEXT_LENGTH bytes are left out",
    )
