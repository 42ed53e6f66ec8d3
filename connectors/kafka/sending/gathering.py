"""aiokafka's queue of batches, in which single messages gather, and batches have the size of their topic.

A message repeats much of the one before it: alone zstd makes a third of it, among three a quarter, among
eight a seventh. So where messages of a partition follow each other closely, they wait a little for the next
ones. One that comes alone waits for nobody.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder, MessageAccumulator, MessageBatch
from aiokafka.structs import TopicPartition

from connectors.kafka.sending.batch_sizes import BatchSizes, new_batch
from streams.core.context import REPLAY

ALONE_SECONDS = 0.005
GATHER_SECONDS = 0.04
# With so many in the queue all go out: their senders wait for them.
MANY = 64


class GatheringAccumulator(MessageAccumulator):
    """For one producer. A live message gathers if the live one before it came just now, and one of a replay
    always: it must not cost a live one its turn, nor keep it waiting.
    """

    sizes: BatchSizes

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named, linger_ms=int(ALONE_SECONDS * 1000))
        self._last: dict[TopicPartition, float] = {}  # when the last live message of each came
        self._single = 0  # messages that wait for their first try

    @property
    def crowded(self) -> bool:
        """Whether nothing should gather any longer."""
        return self._single >= MANY

    async def add_message(self, tp: TopicPartition, *arguments: Any, **named: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = await super().add_message(tp, *arguments, **named)
        now, batch = time.monotonic(), self._batches[tp][-1]
        seconds = GATHER_SECONDS
        if not REPLAY.get():
            seconds = ALONE_SECONDS if now - self._last.get(tp, 0.0) > GATHER_SECONDS else GATHER_SECONDS
            self._last[tp] = now
        left = batch._ctime + batch._linger_time - now
        if batch.record_count == 1:
            batch._linger_time = now + seconds - batch._ctime
        elif seconds < left:
            batch._linger_time -= left - seconds
            self._wake()
        self._single += 1
        if self.crowded:
            self._wake()
        return future

    def _wake(self) -> None:
        """Let the sender look at once."""
        if not self._waiter_future.done():
            self._waiter_future.set_result(None)

    def _append_batch(self, builder: BatchBuilder, tp: TopicPartition) -> MessageBatch:
        if not builder.record_count():  # made here, for single messages
            builder = new_batch(self.sizes.batch(tp.topic))
        return super()._append_batch(builder, tp)

    def _pop_batch(self, tp: TopicPartition) -> MessageBatch:
        batch = super()._pop_batch(tp)
        if batch.retry_count == 1:
            self._single -= len(batch._msg_futures)
        return batch
