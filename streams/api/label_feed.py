"""The labelled topic for the API. It connects at the first request, and again if the local stack was
restarted elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from connectors.kafka.broadcast import Broadcast
from connectors.kafka.connection import connection
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.ports.label_feed import LiveSlice, Start
from streams.runtime.local_stack import with_local_stack


class LabeledFeed:
    """Implements `streams.ports.label_feed.Feed`: one consumer for all readers of the process."""

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
        """Disconnect all readers."""
        for one in self._all:
            one.stop()

    async def close(self) -> None:
        """Stop everything."""
        for one in self._all:
            await one.close()

    async def _found(self) -> Broadcast:
        """The consumer; another one if the local stack was restarted elsewhere since."""
        if self._broadcast is None or self._settings.kafka_bootstrap_servers is None:
            found = await asyncio.to_thread(with_local_stack, self._settings)
            if self._broadcast is None or found.kafka_bootstrap_servers != self._servers:
                self._servers = found.kafka_bootstrap_servers
                self._broadcast = Broadcast(connection(found), Topics(found.topic_prefix).labeled)
                self._all.append(self._broadcast)
        return self._broadcast
