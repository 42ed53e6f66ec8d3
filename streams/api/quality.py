"""Figures of label quality for the page: the same as `labelstream evaluate` tells."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from streams.quality.evaluate import EvaluationQuery, evaluate_tables
from streams.quality.report import By
from streams.runtime.result_tables import ResultTables

# Figures are shared by all viewers for so long, and of so many questions.
_SECONDS = 15.0
_MOST = 16


class QualityBoard:
    """Implements `streams.ports.page.Quality`. One question is answered at a time."""

    def __init__(self, tables: ResultTables) -> None:
        self._tables = tables
        self._answering = asyncio.Lock()
        self._known: dict[EvaluationQuery, tuple[float, dict[str, Any]]] = {}

    async def quality(self, version: str | None, by: By | None, accuracy: float) -> dict[str, Any]:
        query = EvaluationQuery(version, by, accuracy)
        async with self._answering:
            known = self._known.pop(query, None)
            if known is None or time.monotonic() - known[0] > _SECONDS:
                found = await self._tables.ask(
                    lambda client, settings: evaluate_tables(client, settings, query)
                )
                known = (time.monotonic(), found)
            self._known[query] = known
            while len(self._known) > _MOST:
                self._known.pop(next(iter(self._known)))
            return known[1]
