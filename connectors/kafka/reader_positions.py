"""The positions of the readers of some topics, and what retention leaves for them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from connectors.kafka.admin import topic_configs
from connectors.kafka.admin_client import AdminClient, committed_offsets
from connectors.kafka.connection import from_any_broker, start_client, ungrouped_consumer
from connectors.kafka.errors import translate
from streams.core.records import Partition

_CONFIG_SECONDS = 60.0
_LOOK_SECONDS = 10.0


@dataclass(frozen=True)
class Retention:
    """The retention of a topic: ``seconds``, and ``size`` in bytes of each partition; None for no limit."""

    seconds: float | None = None
    size: int | None = None

    @classmethod
    def of(cls, config: Mapping[str, str | None]) -> Retention:
        """From a topic's configuration as the brokers report it; a missing value is no limit."""
        millis, size = _number(config.get("retention.ms")), _number(config.get("retention.bytes"))
        return cls(millis / 1000 if millis is not None else None, size)


class ReaderPosition(NamedTuple):
    """One group in one partition. ``first`` and ``end``: the topic's offsets. ``read``: the next offset to
    read, -1 for a group without a commit. ``aged``: messages below this offset have used up the given share
    of the topic's retention.
    """

    first: int
    end: int
    read: int
    aged: int

    @property
    def next(self) -> int:
        """The next existing message to read."""
        # A position after the end belongs to a former topic of this name.
        return self.first if self.read > self.end else max(self.read, self.first)

    @property
    def unread(self) -> int:
        """Messages that wait for the group."""
        return self.end - self.next

    @property
    def late(self) -> bool:
        """Whether the oldest of them is older than allowed."""
        return self.unread > 0 and self.next < self.aged


class ReaderPositions:
    """Reads without joining any group, with some four requests at a time, however many partitions there are.

    Keeps its connections. Asks by ``client``, which its owner closes, or by one of its own.
    """

    def __init__(
        self,
        connection: dict[str, Any],
        readers: Mapping[str, Sequence[str]],
        client: AdminClient | None = None,
    ) -> None:
        """``readers``: the groups that read each topic."""
        self._connection = connection
        self._readers = readers
        self._consumer: AIOKafkaConsumer | None = None
        self._client = client or AdminClient(connection, kept=True)
        self._owner = client is None
        self._retention: dict[str, Retention] = {}
        self._asked_at = float("-inf")

    async def retention(self) -> dict[str, Retention]:
        """The retention of each topic, at most a minute old.

        Raises:
            UnavailableError, AccessError.
        """
        if time.monotonic() - self._asked_at > _CONFIG_SECONDS:
            async with self._client.use() as admin:
                self._retention = await _retention(admin, list(self._readers))
            self._asked_at = time.monotonic()
        return self._retention

    async def look(self, share: float) -> dict[tuple[str, Partition], ReaderPosition]:
        """The position of each group in each partition of its topics. ``share``: of the topic's retention,
        from which on a message counts as aged.

        Raises:
            UnavailableError, AccessError.
        """
        retention = await self.retention()
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                return await self._look(retention, share)
        except Exception as error:
            await self._stop()
            raise translate(error) from error

    async def _look(
        self, retention: Mapping[str, Retention], share: float
    ) -> dict[tuple[str, Partition], ReaderPosition]:
        groups = sorted({group for some in self._readers.values() for group in some})
        async with self._client.use() as admin:
            places = await _places(admin, list(self._readers))
            # Before the ends: messages that are read meanwhile count as unread, never the other way round.
            offsets = await asyncio.gather(*(committed_offsets(admin, group) for group in groups))
        consumer = await self._started()
        committed = dict(zip(groups, offsets, strict=True))
        first = await consumer.beginning_offsets(places)
        end = await consumer.end_offsets(places)
        aged = await self._aged(consumer, places, retention, share)
        found = {}
        for place in places:
            for group in self._readers[place.topic]:
                at = committed[group].get(place)
                found[group, Partition(*place)] = ReaderPosition(
                    first[place], end[place], at.offset if at is not None else -1, aged.get(place, 0)
                )
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._stop()
        if self._owner:
            await self._client.close()

    async def _stop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(Exception):
                await consumer.stop()

    async def _aged(
        self,
        consumer: AIOKafkaConsumer,
        places: Sequence[TopicPartition],
        retention: Mapping[str, Retention],
        share: float,
    ) -> dict[TopicPartition, int]:
        now, asked = time.time(), {}
        for place in places:
            seconds = retention.get(place.topic, Retention()).seconds
            if seconds is not None and seconds < now:
                asked[place] = int((now - share * seconds) * 1000)
        if not asked:
            return {}
        found = await consumer.offsets_for_times(asked)
        # None: every message is older.
        return {place: at.offset if at is not None else 2**63 - 1 for place, at in found.items()}

    async def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            self._consumer = ungrouped_consumer(self._connection, auto_offset_reset="none")
            await start_client(self._consumer, self._stop)
        return self._consumer


async def _places(admin: AIOKafkaAdminClient, topics: list[str]) -> list[TopicPartition]:
    """All partitions that have a leader; one without would delay the others."""
    return [
        TopicPartition(one["topic"], part["partition"])
        for one in await from_any_broker(admin._client, lambda: admin.describe_topics(topics))
        for part in one["partitions"]
        if part["leader"] >= 0
    ]


async def _retention(admin: AIOKafkaAdminClient, topics: list[str]) -> dict[str, Retention]:
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    responses = await from_any_broker(admin._client, lambda: admin.describe_configs(asked))
    return {topic: Retention.of(config) for topic, config in topic_configs(responses).items()}


def _number(text: str | None) -> int | None:
    try:
        value = int(text or "")
    except ValueError:
        return None
    return value if value >= 0 else None
