"""aiokafka's queue of batches, in which single messages gather, and batches have the size of their topic.

A message repeats much of the one before it: alone zstd makes a third of it, among three a quarter, among
eight a seventh. And a request for one partition costs sender, broker and readers as much as one for all. So
where messages follow each other closely, they wait for the end of a round, when those of all partitions go
out together. One that comes alone waits for nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder, MessageAccumulator, MessageBatch
from aiokafka.structs import TopicPartition

from connectors.kafka.sending.batch_sizes import BatchSizes, new_batch
from streams.core.context import REPLAY

ALONE_SECONDS = 0.005
GATHER_SECONDS = 0.04
ROUND_SECONDS = 0.06
# With so many live messages in the time of a round, each waits for the end of one, whatever its partition.
BUSY = 6
# With so many in the queue all go out: their senders wait for them.
MANY = 64


class GatheringAccumulator(MessageAccumulator):
    """For one producer. A live message gathers if other live ones came just now, and one of a replay always:
    it must not cost a live one its turn, nor keep it waiting.
    """

    sizes: BatchSizes

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named, linger_ms=int(ALONE_SECONDS * 1000))
        # When the sender looks next, by `time.monotonic`, if nothing wakes it.
        self.next_look = float("inf")
        self._last: dict[TopicPartition, float] = {}  # when the last live message of each came
        self._recent: deque[float] = deque([0.0] * BUSY, maxlen=BUSY)  # when the last of all of them came
        self._round_ends = 0.0
        self._single = 0  # messages that wait for their first try

    @property
    def crowded(self) -> bool:
        """Whether nothing should gather any longer."""
        return self._single >= MANY

    async def add_message(self, tp: TopicPartition, *arguments: Any, **named: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = await super().add_message(tp, *arguments, **named)
        now, batch = time.monotonic(), self._batches[tp][-1]
        due = self._due(tp, now)
        if batch.record_count == 1 or due < batch._ctime + batch._linger_time:
            batch._linger_time = due - batch._ctime
        self._single += 1
        if due < self.next_look or self.crowded:
            self._wake()
        return future

    def _due(self, tp: TopicPartition, now: float) -> float:
        """When a message for ``tp`` that comes ``now`` should go out."""
        if REPLAY.get():
            return self._end_of_round(now)
        last, self._last[tp] = self._last.get(tp, 0.0), now
        self._recent.append(now)
        if now - self._recent[0] < ROUND_SECONDS:
            return self._end_of_round(now)
        return now + (GATHER_SECONDS if now - last < GATHER_SECONDS else ALONE_SECONDS)

    def _end_of_round(self, now: float) -> float:
        if self._round_ends <= now:
            self._round_ends = now + ROUND_SECONDS
        return self._round_ends

    def _wake(self) -> None:
        """Let the sender look at once."""
        if not self._waiter_future.done():
            self._waiter_future.set_result(None)

    def _append_batch(self, builder: BatchBuilder, tp: TopicPartition) -> MessageBatch:
        if builder.record_count():
            return super()._append_batch(builder, tp)
        # Made here, for single messages. aiokafka would wake the sender, which has nothing to do yet.
        batch = MessageBatch(tp, new_batch(self.sizes.batch(tp.topic)), self._batch_ttl, self._linger_time)
        self._batches[tp].append(batch)
        return batch

    def _pop_batch(self, tp: TopicPartition) -> MessageBatch:
        batch = super()._pop_batch(tp)
        if batch.retry_count == 1:
            self._single -= len(batch._msg_futures)
        return batch
