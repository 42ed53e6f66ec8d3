"""The labelled topic for the API, without the rows that were erased.

It connects at the first request, and again if the local stack was restarted elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace

from connectors.kafka.broadcast import Broadcast
from connectors.kafka.connection import connection
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.ports.label_feed import LiveLabel, LiveSlice, Start
from streams.privacy.erasure import ErasureList
from streams.runtime.erasures import KnownErasures
from streams.runtime.local_stack import with_local_stack


class LabeledFeed:
    """Implements `streams.ports.label_feed.Feed`: one consumer for all readers of the process."""

    def __init__(self, settings: Settings, erasures: KnownErasures) -> None:
        """``erasures``: kept up to date by the caller."""
        self._settings = settings
        self._erasures = erasures
        self._broadcast: Broadcast | None = None
        self._servers: str | None = None
        self._all: list[Broadcast] = []

    async def follow(self, start: Start, idle_seconds: float) -> AsyncGenerator[LiveSlice]:
        # Old messages are not shown while nobody knows what was erased. Of new ones the agents know.
        if start != "now" and not self._erasures.read:
            await self._erasures.now()
        broadcast = await self._found()
        async with contextlib.aclosing(broadcast.follow(start, idle_seconds)) as slices:
            async for one in slices:
                try:
                    erased = self._erasures.known()
                except ConfigurationError:
                    return
                yield without_erased(one, erased)

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


def without_erased(some: LiveSlice, erased: ErasureList) -> LiveSlice:
    """``some`` without the content of rows that ``erased`` covers; they count for the positions."""
    if erased.newest is None:
        return some
    labels = [
        LiveLabel(one.partition, one.offset) if erased.covers(one.row_id, one.user_id, one.micros) else one
        for one in some.labels
    ]
    return replace(some, labels=labels)
