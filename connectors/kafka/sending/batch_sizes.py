"""How large a batch each topic takes: `max.message.bytes`, which the broker compares with whole batches.

Batches are compressed as they go out. Their size is compared before that, so that no message depends on how
well its neighbours compress.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaError,
    NodeNotReadyError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
)
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.admin import DescribeConfigsRequest

from connectors.kafka.connection import send_to_any_broker
from streams.core.errors import RefusedError
from streams.core.records import Outgoing

# The largest batch, where the topic takes larger ones.
BATCH_BYTES = 900_000
_LEAST_BYTES = 16_384
_FRAME_BYTES = 100  # at most, of a batch and of one message in it, without its headers
_ZSTD = 4  # in the attributes of a batch
_SETTING = "max.message.bytes"
# So often at most a topic is asked again before a message is refused: somebody may have raised its limit.
_AGAIN_SECONDS = 5.0


class BatchSizes:
    """The sizes for the topics of one producer. A topic is asked when it is first written to.

    Without the right to describe a topic its limit stays unknown; then `refused` makes its batches smaller.
    """

    def __init__(self) -> None:
        self._limits: dict[str, int] = {}
        self._batches: dict[str, int] = {}
        self._asked: dict[str, float] = {}
        self._asking = asyncio.Lock()

    def batch(self, topic: str) -> int:
        """The bytes that a batch for ``topic`` may have."""
        return self._batches.get(topic, BATCH_BYTES)

    async def learn(self, client: Any, topic: str, *, older_than: float = float("inf")) -> None:
        """Ask for the limit of ``topic``, unless it was asked for within ``older_than`` seconds."""
        if self._known(topic, older_than):
            return
        async with self._asking:
            if self._known(topic, older_than):
                return
            try:
                limit = await _ask(client, topic)
            except (KafkaError, OSError):
                return  # the next message asks again
            self._asked[topic] = time.monotonic()
            if limit is not None:
                self._limits[topic] = limit
                self._batches[topic] = min(limit, BATCH_BYTES)

    async def refuse_too_large(self, client: Any, message: Outgoing) -> None:
        """As `refuse_larger`, for a batch of ``message`` alone."""
        if size_of(message) + _FRAME_BYTES + 10 * len(message.headers) > self._limit(message.topic):
            alone = new_batch(BATCH_BYTES)
            now = int(time.time() * 1000)
            alone.append(timestamp=now, key=message.key, value=message.value, headers=list(message.headers))
            await self.refuse_larger(client, message.topic, int(alone.size()))

    async def refuse_larger(self, client: Any, topic: str, size: int) -> None:
        """Return if ``topic`` takes a batch of ``size`` bytes, or its limit is unknown.

        Raises:
            RefusedError: it does not.
        """
        if size > self._limit(topic):
            await self.learn(client, topic, older_than=_AGAIN_SECONDS)
        if size > (limit := self._limit(topic)):
            raise RefusedError(
                f"too large for the topic: {size} bytes, {topic} takes {limit:.0f}", reason="too-large"
            )

    def refused(self, topic: str) -> None:
        """The broker refused a batch for its size: somebody has lowered the limit, or it is unknown."""
        self._asked.pop(topic, None)
        self._batches[topic] = max(self.batch(topic) // 2, _LEAST_BYTES)

    def _known(self, topic: str, older_than: float) -> bool:
        asked = self._asked.get(topic)
        return asked is not None and time.monotonic() - asked <= older_than

    def _limit(self, topic: str) -> float:
        return self._limits.get(topic, float("inf"))


def new_batch(size: int) -> BatchBuilder:
    """An empty batch for at most ``size`` bytes, or for one message, that is compressed as it goes out."""
    return BatchBuilder(size, _ZSTD)


def size_of(message: Outgoing) -> int:
    """Bytes of key, value and headers."""
    size = len(message.key or b"") + len(message.value or b"")
    for name, value in message.headers:
        size += len(name) + len(value)
    return size


async def _ask(client: Any, topic: str) -> int | None:
    """None if the broker does not tell it. Raises KafkaError, also while the topic is unknown."""
    request = DescribeConfigsRequest([(ConfigResourceType.TOPIC, topic, [_SETTING])], False)
    if not client.cluster.brokers():
        raise NodeNotReadyError("no broker is known")
    try:
        answer = await send_to_any_broker(client, request)
    except (IncompatibleBrokerVersion, UnsupportedVersionError):
        return None
    for error_code, _, _, _, entries in answer.resources:
        if error_code == UnknownTopicOrPartitionError.errno:
            raise UnknownTopicOrPartitionError(topic)  # it was made just now, and is known soon
        if error_code == 0:
            return next((int(entry[1]) for entry in entries if entry[0] == _SETTING), None)
    return None
