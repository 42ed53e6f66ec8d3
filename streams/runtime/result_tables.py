"""A role's connection to the result database, made at the first query."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.lookups import row_history, search_labels
from streams.core.errors import UnavailableError
from streams.core.settings import Settings
from streams.ports.lookups import LabelPage, LabelQuery, Place, RowHistory
from streams.runtime.local_stack import with_local_stack

T = TypeVar("T")


_CONNECT_SECONDS = 3.0
# No look may take the server's time for longer: whoever asked has gone.
_ANSWER_SECONDS = 25.0


class ResultTables:
    """Implements `streams.ports.lookups.Lookups`; one client for all requests of the process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._resolved: Settings | None = None
        self._clients: list[ClickHouseClient] = []

    async def row(self, row_id: str) -> RowHistory | None:
        return await self.ask(lambda client, settings: row_history(client, settings, row_id))

    async def search(self, query: LabelQuery, after: Place | None, limit: int) -> LabelPage:
        return await self.ask(lambda client, settings: search_labels(client, settings, query, after, limit))

    async def ask(self, work: Callable[[ClickHouseClient, Settings], Awaitable[T]]) -> T:
        """The result of ``work`` with a client and the settings that it was made from.

        Raises:
            ConfigurationError: there is no address.
            as ``work``.
        """
        if self._resolved is None:
            found = await asyncio.to_thread(with_local_stack, self._settings)
            client = ClickHouseClient.from_settings(
                found, connect_seconds=_CONNECT_SECONDS, answer_seconds=_ANSWER_SECONDS
            )
            # Former clients may be in use, and are closed at the end.
            self._clients.append(client)
            self._resolved = found
        settings = self._resolved
        try:
            return await work(self._clients[-1], settings)
        except UnavailableError:
            if self._settings.clickhouse_host is None:
                await self._look_again(settings)
            raise

    async def stream(
        self, work: Callable[[ClickHouseClient, Settings], AsyncIterator[T]]
    ) -> AsyncIterator[T]:
        """The results of ``work``, one after the other. Raises as `ask`."""

        async def open_stream(client: ClickHouseClient, settings: Settings) -> AsyncIterator[T]:
            return work(client, settings)

        async for one in await self.ask(open_stream):
            yield one

    async def close(self) -> None:
        """Close every client."""
        for client in self._clients:
            await client.close()

    async def _look_again(self, used: Settings) -> None:
        found = await asyncio.to_thread(with_local_stack, self._settings)
        moved = (found.clickhouse_host, found.clickhouse_port) != (used.clickhouse_host, used.clickhouse_port)
        if moved and self._resolved is used:
            self._resolved = None
