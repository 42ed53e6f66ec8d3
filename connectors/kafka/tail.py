"""Reads partitions outside any group: a stage's memory is the tail of its own output."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.kafka.errors import translate
from streams.core.records import Partition, Record

_FETCH_BYTES = 4_000_000
_WAIT_MS = 500


def to_record(message: Any) -> Record:
    """Our record for one of aiokafka's."""
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
    """Implements `streams.ports.kafka.Tail`. Reads aborted transactions too: so do ordinary subscribers."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self._connection = connection

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        where = Partition(topic, partition)
        return (await self.bounds_many([where]))[where]

    async def bounds_many(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        if not partitions:
            return {}
        places = [TopicPartition(*partition) for partition in partitions]
        async with self._consumer() as consumer:
            try:
                first = await consumer.beginning_offsets(places)
                end = await consumer.end_offsets(places)
            except Exception as error:
                raise translate(error) from error
        return {Partition(*place): (first[place], end[place]) for place in places}

    async def read(self, topic: str, partition: int, start: int) -> AsyncIterator[list[Record]]:
        async for records in self.read_many({Partition(topic, partition): start}):
            yield records

    async def read_many(self, starts: Mapping[Partition, int]) -> AsyncIterator[list[Record]]:
        if not starts:
            return
        async with self._consumer() as consumer:
            places = [TopicPartition(*partition) for partition in starts]
            try:
                first = await consumer.beginning_offsets(places)
                ends = await consumer.end_offsets(places)
            except Exception as error:
                raise translate(error) from error
            open_places = set()
            consumer.assign(places)
            for place, start in zip(places, starts.values(), strict=True):
                begin = first[place] if start > ends[place] else max(start, first[place])
                if begin < ends[place]:
                    open_places.add(place)
                    consumer.seek(place, begin)
                else:
                    consumer.pause(place)
            while open_places:
                try:
                    batches = await consumer.getmany(*open_places, timeout_ms=_WAIT_MS)
                except Exception as error:
                    raise translate(error) from error
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

    def _consumer(self) -> _Reading:
        return _Reading(self._connection)


class _Reading:
    """An aiokafka consumer without a group, started and stopped around a block."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self._consumer = AIOKafkaConsumer(
            **connection,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_uncommitted",
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=_WAIT_MS,
        )

    async def __aenter__(self) -> AIOKafkaConsumer:
        try:
            await self._consumer.start()
        except Exception as error:
            await self._consumer.stop()
            raise translate(error) from error
        return self._consumer

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
