"""Reads partitions without a group: a stage reads the tail of its own output to learn what is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.kafka.admin_client import AdminClient
from connectors.kafka.connection import start_client, ungrouped_consumer
from connectors.kafka.errors import SETTING, translate
from connectors.kafka.log_ends import LogEnds
from streams.core.errors import UnavailableError
from streams.core.records import Partition, Record

_FETCH_BYTES = 4_000_000
_WAIT_MS = 500
# Messages that are taken out of what was fetched before other tasks get their turn. All of it may be
# gigabytes once it is decompressed, and a heartbeat that waits for it loses the partitions.
_AT_ONCE = 2_000
# Longer than a slow follower stays in the in-sync replicas.
PATIENCE_SECONDS = 45.0


def to_record(message: Any) -> Record:
    """Our record of one of aiokafka's messages."""
    return Record(
        message.topic,
        message.partition,
        message.offset,
        message.timestamp or 0,
        message.key,
        message.value,
        tuple(message.headers or ()),
    )


class TailReader:
    """Implements `streams.ports.kafka.Tail`. Reads aborted transactions too, like subscribers with default
    settings. Asks for offsets by ``client``, or by a client for each call.
    """

    def __init__(self, connection: dict[str, Any], client: AdminClient | None = None) -> None:
        self._connection = connection
        self._client = client or AdminClient(connection)

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        where = Partition(topic, partition)
        return (await self.bounds_many([where]))[where]

    async def bounds_many(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        return await _all(LogEnds(self._client, (), partitions))

    async def firsts(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        return {where: first for where, (first, _) in (await self.bounds_many(partitions)).items()}

    async def offsets_at(self, partitions: Sequence[Partition], millis: int) -> dict[Partition, int]:
        places = [TopicPartition(*partition) for partition in partitions]
        async with self._consumer() as consumer:
            try:
                found = await consumer.offsets_for_times(dict.fromkeys(places, millis))
                ends = await consumer.end_offsets(places)
            except Exception as error:
                raise translate(error) from error
        return {Partition(*place): at.offset if (at := found[place]) else ends[place] for place in places}

    async def written(
        self, partitions: Iterable[Partition], others: Iterable[Partition] = ()
    ) -> AsyncIterator[dict[Partition, tuple[int, int]]]:
        async for found in LogEnds(self._client, partitions, others).look():
            yield found

    async def written_many(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        return await _all(LogEnds(self._client, partitions))

    async def read(self, topic: str, partition: int, start: int) -> AsyncIterator[list[Record]]:
        async for records in self.read_many({Partition(topic, partition): start}):
            yield records

    async def read_many(
        self,
        starts: Mapping[Partition, int],
        bounds: Mapping[Partition, tuple[int, int]] | None = None,
        reached: Callable[[Partition], None] = lambda partition: None,
    ) -> AsyncIterator[list[Record]]:
        if bounds is None:
            bounds = await self.bounds_many(list(starts))
        begins: dict[TopicPartition, int] = {}
        for partition, start in starts.items():
            first, end = bounds[partition]
            begin = first if start > end else max(start, first)
            if begin < end:
                begins[TopicPartition(*partition)] = begin
            else:
                reached(partition)
        if not begins:
            return
        ends = {place: bounds[Partition(*place)][1] for place in begins}
        async with self._consumer() as consumer:
            consumer.assign(list(begins))
            for place, begin in begins.items():
                consumer.seek(place, begin)
            open_places = set(begins)
            while open_places:
                try:
                    batches = await consumer.getmany(*open_places, timeout_ms=_WAIT_MS, max_records=_AT_ONCE)
                except Exception as error:
                    raise translate(error) from error
                await asyncio.sleep(0)  # what is fetched already is handed over without waiting
                for place, messages in batches.items():
                    yield [to_record(message) for message in messages if message.offset < ends[place]]
                for place in list(open_places):
                    try:
                        position = await consumer.position(place)
                    except Exception as error:
                        raise translate(error) from error
                    if position >= ends[place]:
                        open_places.discard(place)
                        consumer.pause(place)
                        reached(Partition(*place))

    def _consumer(self) -> _Reading:
        return _Reading(self._connection)


async def _all(ends: LogEnds) -> dict[Partition, tuple[int, int]]:
    bounds: dict[Partition, tuple[int, int]] = {}
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for found in ends.look():
                bounds |= found
    except TimeoutError as error:
        partition, reason = min(ends.why().items())
        raise UnavailableError(
            f"{len(ends.why())} partitions cannot be read to their end, as "
            f"{partition.topic}/{partition.partition}: {reason}",
            setting=SETTING,
        ) from error
    return bounds


class _Reading:
    """An aiokafka consumer without a group, started and stopped around a block."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self._consumer = ungrouped_consumer(
            connection, max_partition_fetch_bytes=_FETCH_BYTES, fetch_max_wait_ms=_WAIT_MS
        )

    async def __aenter__(self) -> AIOKafkaConsumer:
        try:
            await start_client(self._consumer, self._consumer.stop)
        except Exception as error:
            raise translate(error) from error
        return self._consumer

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
