"""Follows a one-partition topic: all that is in it, then what comes. For compacted topics, in no group."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.kafka.errors import translate
from connectors.kafka.tail import to_record
from streams.ports import Record

_WAIT_MS = 500


class Follower:
    """Hands every message of partition 0 of ``topic`` to ``learn``, in order."""

    def __init__(self, connection: dict[str, Any], topic: str, learn: Callable[[Record], None]) -> None:
        self._learn = learn
        self._place = TopicPartition(topic, 0)
        self._current_at = 0.0
        self._consumer = AIOKafkaConsumer(
            **connection,
            group_id=None,
            enable_auto_commit=False,
            # A topic that was deleted and made again is read from its beginning.
            auto_offset_reset="earliest",
            isolation_level="read_uncommitted",
            fetch_max_wait_ms=_WAIT_MS,
            metadata_max_age_ms=30_000,
        )

    @property
    def current_at(self) -> float:
        """When all that there was had been read, by `time.monotonic`; 0 for never."""
        return self._current_at

    async def start(self) -> None:
        """Read all that is there.

        Raises:
            UnavailableError, AccessError.
        """
        try:
            await self._consumer.start()
            self._consumer.assign([self._place])
            await self._consumer.seek_to_beginning(self._place)
            end = (await self._consumer.end_offsets([self._place]))[self._place]
            while await self._consumer.position(self._place) < end:
                await self._read()
        except Exception as error:
            await self._consumer.stop()
            raise translate(error) from error
        self._current_at = time.monotonic()

    async def follow(self) -> None:
        """Read on, for ever.

        Raises:
            UnavailableError, AccessError: begin anew.
        """
        try:
            while True:
                asked = time.monotonic()
                if not await self._read():
                    self._current_at = asked
        except Exception as error:
            raise translate(error) from error

    async def stop(self) -> None:
        """Close the connection."""
        await self._consumer.stop()

    async def _read(self) -> int:
        found = await self._consumer.getmany(self._place, timeout_ms=_WAIT_MS)
        messages = found.get(self._place, [])
        for message in messages:
            self._learn(to_record(message))
        return len(messages)
