"""What is new, for the page: looked for once an hour at most, and shared by all who look at it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from streams.core.errors import ConfigurationError, RefusedError
from streams.core.settings import Settings
from streams.quality.discovery.discover import discover
from streams.quality.discovery.entry import made_label
from streams.runtime.result_tables import ResultTables

# How old a shown answer may be, and one that somebody asks for anew.
_SECONDS, _ANEW_SECONDS = 3600.0, 30.0


class NewTopics:
    """One look at a time."""

    def __init__(
        self, settings: Settings, tables: ResultTables, edition: Callable[[], object] = lambda: None
    ) -> None:
        """``edition``: another object when rows were erased since: no answer from before is shown then."""
        self._settings = settings
        self._tables = tables
        self._looking = asyncio.Lock()
        self._edition = edition
        self._known: dict[str, Any] | None = None
        self._known_edition: object = None
        self._looked = float("-inf")

    async def discover(self, *, anew: bool) -> dict[str, Any]:
        """See `streams.ports.page.Quality`."""
        async with self._looking:
            old = time.monotonic() - self._looked > (_ANEW_SECONDS if anew else _SECONDS)
            edition = self._edition()
            if self._known is None or old or edition is not self._known_edition:
                self._known, self._known_edition = None, edition
                self._known = await self._tables.ask(discover)
                self._looked = time.monotonic()
            return self._known

    async def entry(self, group: str, name: str) -> dict[str, Any]:
        """See `streams.ports.page.Quality`."""
        found = await self.discover(anew=False)
        try:
            return made_label(found, group, name, taxonomy=self._settings.taxonomy_path)
        except ConfigurationError as error:
            raise RefusedError(str(error), reason="no-label") from error
