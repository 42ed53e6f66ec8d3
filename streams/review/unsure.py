"""The least confident rows, as of some seconds ago; shared by all reviewers of a process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from connectors.clickhouse.queries.review import least_sure
from streams.core.settings import Settings
from streams.ports.lookups import Place
from streams.quality.audit import Draw
from streams.runtime.result_tables import ResultTables

_CANDIDATES = 500
_SECONDS = 20.0


class UnsureRows:
    """Rows that no person answered and that are not drawn for the audit."""

    def __init__(self, settings: Settings, tables: ResultTables) -> None:
        self._settings = settings
        self._tables = tables
        self._candidates: list[Place] = []
        self._looked = float("-inf")

    async def choose(
        self,
        want: int,
        busy: int,
        free: Callable[[Iterable[Place]], list[Place]],
        draw: Draw | None,
    ) -> list[Place]:
        """``want`` rows that ``free`` leaves, or as many as there are. ``busy``: rows that it may leave out:
        leased, decided and not in the tables yet, or drawn. ``draw``: the audit's.

        Raises:
            UnavailableError, ConfigurationError: as the tables.
        """
        old = time.monotonic() - self._looked > _SECONDS
        found = free(self._candidates)
        if old or len(found) < want:
            most = _CANDIDATES + min(busy, 20_000)
            if old or time.monotonic() - self._looked > 1.0:
                audited = None if draw is None else draw.audited(self._settings)
                self._candidates = await self._tables.ask(
                    lambda client, settings: least_sure(client, settings, most, audited)
                )
                self._looked = time.monotonic()
            found = free(self._candidates)
        return found
