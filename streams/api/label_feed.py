"""The ports of the API over the real parts. Each finds its dependency at the first request that needs it,
and where the local stack has moved, again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.lookups import SECONDS, row_history, search_labels
from connectors.kafka.broadcast import Broadcast
from connectors.kafka.connection import connection
from streams.core.errors import UnavailableError
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.ports.label_feed import LiveSlice, Start
from streams.ports.lookups import LabelPage, LabelQuery, Place, RowHistory
from streams.runtime.local_stack import with_local_stack

T = TypeVar("T")
_CONNECT_SECONDS = 3.0


class Tables:
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
            ConfigurationError: no address.
            as ``work``.
        """
        if self._resolved is None:
            found = await asyncio.to_thread(with_local_stack, self._settings)
            client = ClickHouseClient.from_settings(
                found, connect_seconds=_CONNECT_SECONDS, answer_seconds=SECONDS + 5.0
            )
            # Those before it may be in use, and are closed at the end.
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

        async def begun(client: ClickHouseClient, settings: Settings) -> AsyncIterator[T]:
            return work(client, settings)

        async for one in await self.ask(begun):
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


class LabeledFeed:
    """Implements `streams.ports.label_feed.Feed` for the labelled topic; one consumer for all readers of the process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._broadcast: Broadcast | None = None
        self._servers: str | None = None
        self._all: list[Broadcast] = []

    async def follow(self, start: Start, idle_seconds: float) -> AsyncGenerator[LiveSlice]:
        broadcast = await self._found()
        async with contextlib.aclosing(broadcast.follow(start, idle_seconds)) as slices:
            async for one in slices:
                yield one

    def stop(self) -> None:
        """End all readers."""
        for one in self._all:
            one.stop()

    async def close(self) -> None:
        """End everything."""
        for one in self._all:
            await one.close()

    async def _found(self) -> Broadcast:
        """The consumer; another one where the local stack has moved since."""
        if self._broadcast is None or self._settings.kafka_bootstrap_servers is None:
            found = await asyncio.to_thread(with_local_stack, self._settings)
            if self._broadcast is None or found.kafka_bootstrap_servers != self._servers:
                self._servers = found.kafka_bootstrap_servers
                self._broadcast = Broadcast(connection(found), Topics(found.topic_prefix).labeled)
                self._all.append(self._broadcast)
        return self._broadcast
