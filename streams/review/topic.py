"""Reads and writes human labels on their topic."""

from __future__ import annotations

import asyncio
import contextlib

from connectors.kafka.connection import connection
from connectors.kafka.follow import Follower
from connectors.kafka.producer import LeasedProducer
from streams.core.codec import REPLAY_JOB, encode, headers_of
from streams.core.errors import UnavailableError
from streams.core.messages import Labeled
from streams.core.records import Outgoing, Partition, Record
from streams.core.settings import Settings
from streams.core.topics import Topics, partition_of
from streams.review.leases import JOB, Reviews

_ANSWER_SECONDS = 10.0


def outgoing_label(topics: Topics, message: Labeled, partitions: int) -> Outgoing:
    """A person's label for the partition of the row's text, where the model's label of the row is."""
    headers = [*headers_of(message), (REPLAY_JOB, JOB)]
    partition = partition_of(message.text, partitions)
    return Outgoing(topics.labeled, partition, message.row_id.encode(), encode(message), headers)


class _Wire:
    """The review topic: writes to it, and follows it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.topics = Topics(settings.topic_prefix)
        self.reviews = Reviews()
        self.producer = LeasedProducer(connection(settings))
        self._learned = asyncio.Condition()
        self._follower = Follower(connection(settings), self.topics.review, self._learn)
        self._tasks: list[asyncio.Task[None]] = []
        self._woken: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self._follower.start()
        self._tasks.append(asyncio.create_task(self._follower.run()))

    async def write(self, *messages: Outgoing, learn: bool = True) -> None:
        """With ``learn``: wait until this process has read its own messages, and so everything before
        them.
        """
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                offsets = await self.producer.send_many(messages)
                if not learn:
                    return
                async with self._learned:
                    await self._learned.wait_for(lambda: self.reviews.seen >= max(offsets))
        except TimeoutError:
            raise UnavailableError(
                "the review topic does not answer", setting="KAFKA_BOOTSTRAP_SERVERS", after=2.0
            ) from None

    async def publish(self, message: Labeled, partitions: int) -> None:
        """Send a person's label, as `outgoing_label`."""
        outgoing = outgoing_label(self.topics, message, partitions)
        partition = outgoing.partition
        if (outage := self.producer.outages.get(Partition(self.topics.labeled, partition))) is not None:
            # At once: each try would be one more message that waits there.
            raise UnavailableError(
                f"{self.topics.labeled}/{partition} cannot be written: {outage.why}",
                setting="KAFKA_BOOTSTRAP_SERVERS",
                after=2.0,
            )
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self.producer.send(outgoing)
        except TimeoutError:
            raise UnavailableError(
                "the label was not confirmed", setting="KAFKA_BOOTSTRAP_SERVERS", after=2.0
            ) from None

    async def stop(self) -> None:
        for task in (*self._tasks, *self._woken):
            task.cancel()
        with contextlib.suppress(ValueError):
            await asyncio.wait([*self._tasks, *self._woken])
        await self._follower.stop()
        await self.producer.stop()

    def _learn(self, record: Record) -> None:
        self.reviews.learn(record)
        task = asyncio.get_running_loop().create_task(self._wake())
        self._woken.add(task)
        task.add_done_callback(self._woken.discard)

    async def _wake(self) -> None:
        async with self._learned:
            self._learned.notify_all()
