"""The producer: idempotent, not transactional, and sends only with a valid lease.

aiokafka resends a batch until the brokers confirm it; the sequence numbers prevent duplicates. It has no way
to drop messages that it has not sent yet. `fence` does that: it closes the whole producer, and starts a new
one with a new producer id.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextvars import Context
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
)

from connectors.kafka.connection import start_client
from connectors.kafka.errors import SETTING, translate
from connectors.kafka.sending.batch_sizes import BATCH_BYTES, BatchSizes, new_batch
from connectors.kafka.sending.gathering import GatheringAccumulator
from connectors.kafka.sending.partition_sender import PartitionSender
from streams.core.background import gathered
from streams.core.errors import LabelstreamError, LeaseLostError, RefusedError, UnavailableError
from streams.core.records import Outage, Outgoing, Partition, Run, by_partition
from streams.core.topics import MESSAGE_BYTES
from streams.ports.kafka import Lease

log = structlog.get_logger()

_RETRY_SECONDS = 0.2
_REQUEST_SECONDS = 10.0
_STOP_SECONDS = 5.0
_PATIENCE_SECONDS = 40.0
_LOOK_SECONDS = 0.05


class LeasedProducer:
    """Implements `streams.ports.kafka.Sender`. With ``lease=None`` it always sends (commands, API)."""

    def __init__(
        self, connection: dict[str, Any], lease: Lease | None = None, *, patience: float = _PATIENCE_SECONDS
    ) -> None:
        """``patience``: seconds. Without a lease a person waits for the answer: a send that takes longer
        raises UnavailableError, though what was handed over may still be written.
        """
        self._connection = connection
        self._lease = lease
        self._patience = patience if lease is None else None
        self._current: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self.outages: dict[Partition, Outage] = {}  # of all its producers
        self._turns: dict[Partition, asyncio.Lock] = {}  # runs of one partition go out one after the other
        self._alone: dict[Partition, asyncio.Lock] = {}
        self._retired: set[AIOKafkaProducer] = set()
        self._disposals: set[asyncio.Task[None]] = set()
        self._written: dict[str, tuple[int, int]] = {}  # messages and bytes of each topic
        self._sizes = BatchSizes()

    def size_of(self, topic: str) -> float | None:
        """The mean size in bytes of the messages of ``topic`` so far, compressed; None without any."""
        count, size = self._written.get(topic, (0, 0))
        return size / count if count else None

    def _count(self, topic: str, messages: int, size: int) -> None:
        before = self._written.get(topic, (0, 0))
        self._written[topic] = (before[0] + messages, before[1] + size)

    async def start(self) -> None:
        """Connect.

        Raises:
            UnavailableError, AccessError: as `connectors.kafka.errors` maps them.
        """
        await self._producer()

    async def stop(self) -> None:
        """Send what is waiting, then close. What waits for a partition that cannot be written is given up."""
        if self._current is not None:
            self._retire(self._current)
        if self._disposals:
            await asyncio.wait(self._disposals, timeout=_STOP_SECONDS)
        if self._disposals:
            self.fence()
            await asyncio.wait(self._disposals, timeout=_STOP_SECONDS)

    def fence(self) -> None:
        """Drop everything that is not confirmed: it fails with LeaseLostError and is not sent.

        Only what is being written to the broker at this moment may still be stored.
        """
        producers, self._current = self._every, None
        for producer in producers:
            producer._sender.fence()
            self._in_background(_dispose(producer))

    def fence_unconfirmed(self) -> None:
        """As `fence`, if anything is not confirmed."""
        accumulators = [one._message_accumulator for one in self._every]
        if any(one._batches or one._pending_batches for one in accumulators):
            self.fence()

    @property
    def _every(self) -> list[AIOKafkaProducer]:
        return [*self._retired, *([self._current] if self._current is not None else [])]

    async def send(self, message: Outgoing) -> int:
        if self._patience is None:
            return await self._send(message)
        async with self._bounded():
            return await self._send(message)

    @contextlib.asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience):
                yield
        except TimeoutError:
            held = [f"{where.topic}/{where.partition}: {one.why}" for where, one in self.outages.items()]
            reason = f"nobody knows whether it was written: {', '.join(held[:3]) or 'no answer'}"
            raise UnavailableError(reason, setting=SETTING) from None

    async def _send(self, message: Outgoing) -> int:
        while True:
            producer = await self._producer()
            await self._sizes.learn(producer.client, message.topic)
            await self._sizes.refuse_too_large(producer.client, message)
            handed_over = False
            try:
                future = await producer.send(
                    message.topic,
                    value=message.value,
                    key=message.key,
                    partition=message.partition,
                    headers=list(message.headers),
                )
                future.add_done_callback(_retrieved)
                handed_over = True
                return int((await future).offset)  # a cancelled one was sent all the same
            except Exception as error:
                if _size_refused_by_broker(error) and self._current is producer:
                    self._sizes.refused(message.topic)
                await self._recover(producer, error, handed_over)
                if _size_refused_by_broker(error):
                    return await self._send_alone(message)

    async def send_many(self, messages: Sequence[Outgoing]) -> list[int]:
        places = by_partition(enumerate(messages), lambda numbered: numbered[1])
        runs = [Run.of(where, [message for _, message in found]) for where, found in places.items()]
        offsets = [0] * len(messages)
        async with self._bounded():
            sending = await self.hand_over(runs)
            # Whoever is told of a failure looks at what was written: then nothing may be under way any more.
            written = await gathered(sending)
        for found, batches in zip(places.values(), written, strict=True):
            taken = (base + at for base, count in batches for at in range(count))
            for (index, _), offset in zip(found, taken, strict=True):
                offsets[index] = offset
        return offsets

    async def hand_over(self, runs: Sequence[Run]) -> list[asyncio.Task[list[tuple[int, int]]]]:
        producer = await self._producer()
        for topic in {run.topic for run in runs}:
            await self._sizes.learn(producer.client, topic)
        loop = asyncio.get_running_loop()
        taken = [(Partition(run.topic, run.partition), loop.create_future()) for run in runs]
        tasks = []
        for run, (_, last) in zip(runs, taken, strict=True):
            task = loop.create_task(self._send_run(producer, run, last))
            task.add_done_callback(_retrieved)
            tasks.append(task)
        while wait_for := [one for where, one in taken if not one.done() and where not in self.outages]:
            await asyncio.wait(wait_for, timeout=_LOOK_SECONDS)
        return tasks

    async def _send_run(
        self, producer: AIOKafkaProducer, run: Run, last: asyncio.Future[None]
    ) -> list[tuple[int, int]]:
        """``last`` is set when the last message is in a batch, or none will be."""
        where = Partition(run.topic, run.partition)
        try:
            try:
                async with self._turns.setdefault(where, asyncio.Lock()):
                    batches = await self._hand_over(producer, run)
            finally:
                last.set_result(None)
            return await _places(batches)
        except Exception as error:
            if _size_refused_by_broker(error):
                self._sizes.refused(run.topic)
            if not isinstance(error, LabelstreamError):
                # A batch that was refused leaves a hole in its partition's sequence numbers.
                self._retire(producer)
            raise translate(error) from error

    async def _hand_over(self, producer: AIOKafkaProducer, run: Run) -> list[_Batch]:
        """Send through aiokafka's batch API, which costs a third of a future per message."""
        batches: list[_Batch] = []
        over: list[Any] = []  # what the last batch had no room for
        messages = iter(run.messages)
        try:
            while True:
                batch, now = new_batch(self._sizes.batch(run.topic)), int(time.time() * 1000)
                count = 0
                # The batch's own append is twice as slow; it also counts, which is done below.
                append = batch._builder.append
                left = chain([over.pop()], messages) if over else messages
                for key, value, headers in left:
                    size = len(value or b"") + len(key or b"")
                    if size > MESSAGE_BYTES:
                        raise RefusedError(f"too large for the topic: {size} bytes", reason="too-large")
                    if append(count, now, key, value, headers) is None:
                        over.append((key, value, headers))
                        break
                    count += 1
                if count:
                    # The first message is put into any batch. Without the rest, which the caller sends again.
                    await self._sizes.refuse_larger(producer.client, run.topic, batch.size())
                    batch._relative_offset = count
                    batch.close()
                    batches.append(_Batch(count, await _sent(producer, batch, run)))
                    await asyncio.sleep(0)  # it can go out while the next is made
                if not over:
                    return batches
        except BaseException:
            # Whatever was passed on will be sent; the caller must not return before the result is known.
            await asyncio.gather(*(batch.sent for batch in batches), return_exceptions=True)
            raise

    async def _producer(self) -> AIOKafkaProducer:
        if self._current is not None and _alive(self._current):
            return self._current
        async with self._starting:
            if self._current is not None:
                if _alive(self._current):
                    return self._current
                self.fence()
            producer = AIOKafkaProducer(
                **self._connection,
                enable_idempotence=True,
                acks="all",
                max_batch_size=BATCH_BYTES,
                max_request_size=MESSAGE_BYTES,
                metadata_max_age_ms=60_000,
                # A broker that stands still is given up for another leader.
                request_timeout_ms=int(_REQUEST_SECONDS * 1000),
            )
            queue = GatheringAccumulator(
                producer.client.cluster,
                BATCH_BYTES,
                0,
                _REQUEST_SECONDS,
                txn_manager=producer._sender._txn_manager,
            )
            queue.sizes = self._sizes
            producer._message_accumulator = producer._sender._message_accumulator = queue
            producer._sender = PartitionSender.take_over(
                producer._sender, self._lease, self.outages, self._count
            )
            try:
                # Its tasks outlive the message that is sent first: their log lines are not about its row.
                starting = start_client(producer, partial(_close_unstarted, producer))
                await asyncio.get_running_loop().create_task(starting, context=Context())
            except Exception as error:
                raise translate(error) from error
            self._current = producer
            return producer

    def _retire(self, producer: AIOKafkaProducer) -> None:
        """Continue with a new producer; the old one sends its messages, because other partitions are in
        order.
        """
        if self._current is producer:
            self._current = None
            self._retired.add(producer)
            self._in_background(self._close(producer))

    async def _close(self, producer: AIOKafkaProducer) -> None:
        try:
            await producer.stop()
        finally:
            self._retired.discard(producer)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._disposals.add(task)
        task.add_done_callback(self._disposals.discard)

    async def _recover(self, producer: AIOKafkaProducer, error: Exception, handed_over: bool) -> None:
        """Raise what the caller must know; otherwise prepare for another attempt."""
        if isinstance(error, MessageSizeTooLargeError) and error.args:
            raise translate(error) from error  # refused here, before it got a sequence number
        if _size_refused_by_broker(error) or isinstance(error, (OutOfOrderSequenceNumber, ProducerClosed)):
            # A refused batch leaves a gap in its partition's sequence numbers: only a new producer id solves
            # that. A batch that is refused for its sequence number was not written.
            self._retire(producer)
            return
        failed = translate(error)
        if not isinstance(failed, UnavailableError):
            raise failed from error
        if handed_over:
            # aiokafka retries for ever what may have been written. If it gave up nevertheless (no leader for
            # long), another attempt could write it twice. The next owner of the partition learns what is
            # there.
            raise LeaseLostError(f"nobody knows whether it was written: {failed}") from error
        log.warning("send_retried", error=str(failed))
        await asyncio.sleep(_RETRY_SECONDS)

    async def _send_alone(self, message: Outgoing) -> int:
        """The broker refused a batch for its size. Alone, each message learns whether it was its own."""
        run = Run(message.topic, message.partition, iter([message.content]))
        async with self._alone.setdefault(Partition(*message[:2]), asyncio.Lock()):
            while True:
                producer, last = await self._producer(), asyncio.get_running_loop().create_future()
                try:
                    return (await self._send_run(producer, run, last))[0][0]
                except UnavailableError as error:
                    # A batch before it was refused, and left a gap: then it was not written.
                    if not isinstance(error.__cause__, OutOfOrderSequenceNumber):
                        raise
                    run = Run(message.topic, message.partition, iter([message.content]))


async def send_each(connection: dict[str, Any], messages: Sequence[Outgoing]) -> None:
    """Send ``messages`` one after the other with a producer of its own; for a few of them.

    Raises:
        UnavailableError, AccessError, RefusedError.
    """
    producer = LeasedProducer(connection)
    try:
        for message in messages:
            await producer.send(message)
    finally:
        await producer.stop()


class _Batch(NamedTuple):
    """A batch that aiokafka has, and how many ``messages`` it has."""

    messages: int
    sent: asyncio.Future[Any]


async def _sent(producer: AIOKafkaProducer, batch: Any, run: Run) -> asyncio.Future[Any]:
    """Hand over a batch, which waits for the one before it, however long."""
    while True:
        with contextlib.suppress(KafkaTimeoutError):
            sent: asyncio.Future[Any] = await producer.send_batch(batch, run.topic, partition=run.partition)
            return sent


async def _places(batches: Sequence[_Batch]) -> list[tuple[int, int]]:
    """Where the batches begin, and how many messages they have."""
    written = await gathered(batch.sent for batch in batches)
    return [(int(one.offset), batch.messages) for batch, one in zip(batches, written, strict=True)]


async def _close_unstarted(producer: AIOKafkaProducer) -> None:
    """Without waiting for its messages: it has none."""
    producer._closed = True
    await producer.client.close()


def _alive(producer: AIOKafkaProducer) -> bool:
    """Whether aiokafka's tasks run: what they fail with is told to nobody who sends later."""
    tasks = (producer._sender.sender_task, producer.client._sync_task)
    return not any(task is not None and task.done() for task in tasks)


def _retrieved(future: asyncio.Future[Any]) -> None:
    """Whoever waited for it may be gone."""
    if not future.cancelled():
        future.exception()


def _size_refused_by_broker(error: Exception) -> bool:
    return isinstance(error, MessageSizeTooLargeError) and not error.args


async def _dispose(producer: AIOKafkaProducer) -> None:
    """Close without sending: connections first, so that no retry has one."""
    producer._closed = True
    try:
        await producer.client.close()
        if producer._sender.sender_task is not None:
            producer._sender.sender_task.cancel()
            await asyncio.wait([producer._sender.sender_task], timeout=60)
    except (KafkaError, OSError) as error:
        log.debug("producer_disposed", error=str(error))
