"""What an erasure does to the topics: those with a retention time keep their messages until then, compacted
ones get a tombstone for each key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection
from connectors.kafka.producer import send_each
from connectors.kafka.tail import TailReader
from streams.core.records import Outgoing
from streams.core.settings import Settings
from streams.core.times import moment
from streams.core.topics import Topics
from streams.ports.lookups import Place
from streams.ports.review import UNSURE, item_key

_WEEK_MS = 7 * 86_400_000


async def kept_by_topics(settings: Settings) -> list[dict[str, str | None]]:
    """For each topic (`where`) `until` which day a message that it has today can be there, null for one that
    deletes nothing; and `why`. A message is deleted with its segment, which may take others for `segment.ms`.

    Raises:
        UnavailableError, AccessError.
    """
    wanted = [topic for topic in Topics(settings.topic_prefix).all() if not topic.compacted]
    found = await Admin(connection(settings)).find([topic.name for topic in wanted])
    kept: list[dict[str, str | None]] = []
    for topic in wanted:
        if topic.name in found:
            config = found[topic.name].config
            retention, segment = int(config.get("retention.ms", -1)), int(config.get("segment.ms", _WEEK_MS))
            # Brokers look every few minutes, and the day is a whole one.
            last = datetime.now(UTC) + timedelta(milliseconds=max(retention, 0) + segment, hours=1)
            until = None if retention < 0 else last.date().isoformat()
            why = (
                "Kafka deletes no single message" if until else "retention.ms is -1: nothing is ever deleted"
            )
            kept.append({"where": topic.name, "until": until, "why": why})
    return kept


async def review_keys(settings: Settings, tail: TailReader, rows: Collection[tuple[str, int]]) -> list[bytes]:
    """The keys of the review topic that name one of ``rows`` (id, time in microseconds since 1970).

    Raises:
        UnavailableError, AccessError.
    """
    items = {item_key(Place(moment(micros), row_id), UNSURE) for row_id, micros in rows}
    found: dict[bytes, bool] = {}
    if not items:
        return []
    async for records in tail.read(Topics(settings.topic_prefix).review, 0, 0):
        for record in records:
            _, _, item = (record.key or b"").decode("utf-8", "replace").partition("/")
            if item.partition("/")[0] in items and record.key is not None:
                found[record.key] = record.value is not None
    return sorted(key for key, there in found.items() if there)


async def send_tombstones(settings: Settings, keys: Sequence[bytes]) -> int:
    """Delete ``keys`` from the review topic: what they had goes when it is next compacted. Returns how many.

    Raises:
        UnavailableError, AccessError.
    """
    if keys:
        topic = Topics(settings.topic_prefix).review
        await send_each(connection(settings), [Outgoing(topic, 0, key, None) for key in keys])
    return len(keys)
