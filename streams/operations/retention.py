"""Readers that Kafka's retention catches up with, and messages that it removed before they were read."""

from __future__ import annotations

from typing import Any

from connectors.kafka.connection import connection
from connectors.kafka.headroom import SHARE
from connectors.kafka.reader_positions import ReaderPositions
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.ports.kafka import WaitsFor


async def find_late_readers(settings: Settings) -> list[WaitsFor]:
    """The groups whose oldest waiting message has used up its share of a topic's retention: what writes to
    this topic waits for them.

    Raises:
        UnavailableError, AccessError, ConfigurationError.
    """
    groups = Topics(settings.topic_prefix).groups
    written = sorted({topic for group in groups.pipeline for topic in group.topics})
    written.remove(Topics(settings.topic_prefix).cursor)
    readers = ReaderPositions(connection(settings), groups.readers_of(written))
    try:
        found = await readers.look(SHARE)
    finally:
        await readers.close()
    unread: dict[tuple[str, str], int] = {}
    for (group, where), at in found.items():
        unread[where.topic, group] = unread.get((where.topic, group), 0) + at.unread
    late = sorted({(where.topic, group) for (group, where), at in found.items() if at.late})
    return [WaitsFor(*key, unread=unread[key], why="age") for key in late]


def describe_late(one: WaitsFor) -> str:
    """For a report."""
    return f"{one.group} is late in {one.topic}: {one.unread} messages wait, and what writes to it waits too"


def describe_lost(one: dict[str, Any]) -> str:
    """For a report. ``one``: of `Losses.by_reader`."""
    rows = f"the rows of {one['open']} are still looked for" if one["open"] else "their rows were looked for"
    return (
        f"retention took {one['messages']} messages of {one['topic']} before {one['group']} read them; {rows}"
    )
