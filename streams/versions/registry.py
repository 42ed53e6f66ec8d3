"""Registers a version on its topic, and reads those that are there."""

from __future__ import annotations

from connectors.kafka.connection import connection
from connectors.kafka.tail import TailReader
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.versions.topic import KnownVersions


async def read_versions(settings: Settings) -> KnownVersions:
    """What the versions topic holds.

    Raises:
        UnavailableError, AccessError.
    """
    known = KnownVersions()
    tail = TailReader(connection(settings))
    async for records in tail.read(Topics(settings.topic_prefix).versions, 0, 0):
        for record in records:
            known.learn(record)
    return known
