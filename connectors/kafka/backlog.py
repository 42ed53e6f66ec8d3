"""The content of partitions, how many messages wait after some positions, and since when."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.kafka.connection import start_client, ungrouped_consumer
from connectors.kafka.errors import translate
from streams.core.records import Partition

_SECONDS = 5.0


class Backlog(NamedTuple):
    """``messages`` that are not done; ``oldest``: Kafka's time of the first, seconds since 1970, None without
    messages or if it could not be read in time. ``first`` and ``end``: the partition's offsets.
    """

    messages: int
    oldest: float | None
    first: int = 0
    end: int = 0


class BacklogReader:
    """Reads without a consumer group, and keeps its connection."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self._connection = connection
        self._consumer: AIOKafkaConsumer | None = None

    async def read(
        self, positions: Mapping[Partition, int], *, oldest: bool = True
    ) -> dict[Partition, Backlog]:
        """The backlog after each of ``positions`` (the next offset to process; -1: the topic's beginning).

        ``oldest``: whether to read the time of the oldest messages, which costs a fetch.

        Raises:
            UnavailableError, AccessError.
        """
        if not positions:
            return {}
        try:
            return await self._read(positions, oldest)
        except Exception as error:
            await self.close()
            raise translate(error) from error

    async def close(self) -> None:
        """Close the connection; the next read opens one."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(Exception):
                await consumer.stop()

    async def _read(self, positions: Mapping[Partition, int], oldest: bool) -> dict[Partition, Backlog]:
        consumer = await self._started()
        places = {TopicPartition(*partition): at for partition, at in positions.items()}
        first = await consumer.beginning_offsets(list(places))
        end = await consumer.end_offsets(list(places))
        starts = {place: max(at, first[place]) for place, at in places.items()}
        # A position after the end belongs to a former topic of this name.
        behind = {place: end[place] - at for place, at in starts.items() if end[place] > at}
        times = await _first_times(consumer, {place: starts[place] for place in behind}) if oldest else {}
        return {
            Partition(*place): Backlog(behind.get(place, 0), times.get(place), first[place], end[place])
            for place in places
        }

    async def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            # One message of each partition is enough, so fetch only the batch that it is in.
            self._consumer = ungrouped_consumer(self._connection, max_partition_fetch_bytes=4096)
            await start_client(self._consumer, self.close)
        return self._consumer


async def _first_times(
    consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int]
) -> dict[TopicPartition, float]:
    found: dict[TopicPartition, float] = {}
    if not starts:
        return found
    consumer.assign(list(starts))
    for place, start in starts.items():
        consumer.seek(place, start)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SECONDS):
            while missing := [place for place in starts if place not in found]:
                for place, messages in (await consumer.getmany(*missing, timeout_ms=500)).items():
                    if messages:
                        found[place] = (messages[0].timestamp or 0) / 1000
                        consumer.pause(place)
    consumer.assign([])
    return found
