"""Follows a one-partition topic: reads its content, then new messages. For compacted topics, without
a group.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.kafka.connection import start_client, ungrouped_consumer
from connectors.kafka.errors import translate
from connectors.kafka.tail import to_record
from streams.core.errors import LabelstreamError
from streams.core.records import Record

log = structlog.get_logger()

_WAIT_MS = 2_000  # new messages end the wait
_AGAIN_SECONDS = 2.0


class Follower:
    """Passes every message of partition 0 of ``topic`` to ``learn``, in order; after a failure some are
    passed again.
    """

    def __init__(self, connection: dict[str, Any], topic: str, learn: Callable[[Record], None]) -> None:
        self._connection = connection
        self._learn = learn
        self._place = TopicPartition(topic, 0)
        self._current_at = 0.0
        self._consumer: AIOKafkaConsumer | None = None

    @property
    def current_at(self) -> float:
        """When the end of the topic was last reached, by `time.monotonic`; 0 for never."""
        return self._current_at

    async def start(self) -> None:
        """Read the present content.

        Raises:
            UnavailableError, AccessError.
        """
        await self.stop()
        consumer = ungrouped_consumer(
            self._connection, fetch_max_wait_ms=_WAIT_MS, metadata_max_age_ms=30_000
        )
        self._consumer = consumer
        try:
            await start_client(consumer, consumer.stop)
            consumer.assign([self._place])
            await consumer.seek_to_beginning(self._place)
            end = (await consumer.end_offsets([self._place]))[self._place]
            while await consumer.position(self._place) < end:
                await self._read(consumer)
        except Exception as error:
            await self.stop()
            raise translate(error) from error
        self._current_at = time.monotonic()

    async def run(self) -> None:
        """Continue reading, until cancelled; starts again after a failure."""
        try:
            while True:
                try:
                    if self._consumer is None:
                        await self.start()
                    await self._follow()
                except LabelstreamError as error:
                    log.info("followed_anew", topic=self._place.topic, reason=str(error))
                    await self.stop()
                    await asyncio.sleep(_AGAIN_SECONDS)
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Close the connection."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(Exception):
                await consumer.stop()

    async def _follow(self) -> None:
        consumer = self._consumer
        assert consumer is not None
        try:
            while True:
                asked = time.monotonic()
                if not await self._read(consumer):
                    self._current_at = asked
        except Exception as error:
            raise translate(error) from error

    async def _read(self, consumer: AIOKafkaConsumer) -> int:
        found = await consumer.getmany(self._place, timeout_ms=_WAIT_MS)
        messages = found.get(self._place, [])
        for message in messages:
            self._learn(to_record(message))
        return len(messages)
