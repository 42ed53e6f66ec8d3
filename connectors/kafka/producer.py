"""The producer: idempotent, not transactional, and sends only with a valid lease.

aiokafka resends a batch until the brokers confirm it; the sequence numbers prevent duplicates. It has no way
to drop messages that it has not sent yet. `fence` does that: it closes the whole producer, and starts a new
one with a new producer id.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, OutOfOrderSequenceNumber, ProducerClosed

from connectors.kafka.batch_sizes import BATCH_BYTES, BatchSizes, SizedAccumulator, new_batch, size_of
from connectors.kafka.errors import translate
from connectors.kafka.gate import GatedSender
from streams.core.errors import LabelstreamError, LeaseLostError, RefusedError, UnavailableError
from streams.core.records import Outgoing, Run
from streams.core.topics import MESSAGE_BYTES
from streams.ports.kafka import Lease

log = structlog.get_logger()

LINGER_MS = 5
_RETRY_SECONDS = 0.2


class LeasedProducer:
    """Implements `streams.ports.kafka.Sender`. With ``lease=None`` it always sends (tools, tests)."""

    def __init__(self, connection: dict[str, Any], lease: Lease | None = None) -> None:
        self._connection = connection
        self._lease = lease
        self._current: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._alone = asyncio.Lock()
        self._retired: set[AIOKafkaProducer] = set()
        self._disposals: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.Future[Any]] = set()  # running batches and hand-overs
        self._written: dict[str, tuple[int, int]] = {}  # messages and bytes of each topic
        self._sizes = BatchSizes()

    def size_of(self, topic: str) -> float | None:
        """The mean size in bytes of the messages of ``topic`` so far; None without any."""
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
        """Send the waiting messages, then close."""
        producer, self._current = self._current, None
        if producer is not None:
            await producer.stop()
        await asyncio.gather(*self._disposals, return_exceptions=True)

    def fence(self) -> None:
        """Drop everything that is not confirmed: it fails with LeaseLostError and is not sent.

        Only what is being written to the broker at this moment may still be stored.
        """
        producers = [*self._retired, *([self._current] if self._current is not None else [])]
        self._current = None
        for producer in producers:
            producer._sender.fenced = True
            producer._message_accumulator.fail_all(LeaseLostError("taken back before it was confirmed"))
            self._in_background(_dispose(producer))

    async def send(self, message: Outgoing) -> int:
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
                handed_over = True
                self._count(message.topic, 1, size_of(message))
                return int((await asyncio.shield(future)).offset)
            except Exception as error:
                if _size_refused_by_broker(error) and self._current is producer:
                    self._sizes.refused(message.topic)
                await self._recover(producer, error, handed_over)
                if _size_refused_by_broker(error):
                    return await self._send_alone(message)

    async def send_many(self, messages: Sequence[Outgoing]) -> list[int]:
        by_place: dict[tuple[str, int], list[int]] = {}
        for index, message in enumerate(messages):
            by_place.setdefault(message[:2], []).append(index)
        runs = [
            Run(*where, (messages[index].content for index in indices)) for where, indices in by_place.items()
        ]
        offsets = [0] * len(messages)
        for indices, batches in zip(by_place.values(), await (await self.hand_over(runs)), strict=True):
            found = (base + at for base, count in batches for at in range(count))
            for index, offset in zip(indices, found, strict=True):
                offsets[index] = offset
        return offsets

    async def hand_over(self, runs: Sequence[Run]) -> asyncio.Task[list[list[tuple[int, int]]]]:
        producer = await self._producer()
        for topic in {run.topic for run in runs}:
            await self._sizes.learn(producer.client, topic)
        try:
            with self._handing_over():
                batches = await self._hand_over(producer, runs)
        except Exception as error:
            raise await self._failed(producer, error) from error
        return asyncio.get_running_loop().create_task(self._confirmed(producer, batches))

    @contextlib.contextmanager
    def _handing_over(self) -> Iterator[None]:
        """Delay failures until this is over."""
        handing = asyncio.get_running_loop().create_future()
        self._open.add(handing)
        try:
            yield
        finally:
            self._open.discard(handing)
            handing.set_result(None)

    async def _confirmed(
        self, producer: AIOKafkaProducer, batches: Sequence[_Batch]
    ) -> list[list[tuple[int, int]]]:
        try:
            return await _places(batches)
        except Exception as error:
            if _size_refused_by_broker(error):
                for topic in {batch.topic for batch in batches}:
                    self._sizes.refused(topic)
            raise await self._failed(producer, error) from error

    async def _failed(self, producer: AIOKafkaProducer, error: Exception) -> LabelstreamError:
        failed = translate(error)
        if not isinstance(failed, LeaseLostError) and not isinstance(error, LabelstreamError):
            while self._open:  # other batches are either written or not before anybody reads
                await asyncio.wait(self._open)
            self._drop(producer)
        return failed

    async def _producer(self) -> AIOKafkaProducer:
        if self._current is not None:
            return self._current
        async with self._starting:
            if self._current is not None:
                return self._current
            producer = AIOKafkaProducer(
                **self._connection,
                enable_idempotence=True,
                acks="all",
                linger_ms=LINGER_MS,
                max_batch_size=BATCH_BYTES,
                max_request_size=MESSAGE_BYTES,
                metadata_max_age_ms=60_000,
            )
            own = producer._sender
            queue = SizedAccumulator(
                producer.client.cluster,
                BATCH_BYTES,
                0,
                own._request_timeout_ms / 1000,
                txn_manager=own._txn_manager,
                linger_ms=LINGER_MS,
            )
            queue.sizes = self._sizes
            producer._message_accumulator = queue
            gated = GatedSender(
                own.client,
                acks=own._acks,
                txn_manager=own._txn_manager,
                message_accumulator=queue,
                retry_backoff_ms=int(own._retry_backoff * 1000),
                request_timeout_ms=own._request_timeout_ms,
            )
            gated.watch(self._lease)
            producer._sender = gated
            try:
                await producer.start()
            except BaseException as error:
                producer._closed = True
                await producer.client.close()
                if isinstance(error, Exception):
                    raise translate(error) from error
                raise
            self._current = producer
            return producer

    def _drop(self, producer: AIOKafkaProducer) -> None:
        if self._current is producer:
            self.fence()

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
        """The broker refused a batch for its size. Sent alone, each message shows whether it is too large."""
        async with self._alone:
            producer = await self._producer()
            try:
                alone = Run(message.topic, message.partition, iter([message.content]))
                return (await _places(await self._hand_over(producer, [alone])))[0][0][0]
            except Exception as error:
                self._retire(producer)
                raise translate(error) from error

    async def _hand_over(self, producer: AIOKafkaProducer, runs: Sequence[Run]) -> list[_Batch]:
        """Send through aiokafka's batch API, which costs a third of a future per message.

        The runs are sent in turn, batch by batch: aiokafka sends one batch of a partition, and waits for it.
        """
        batches: list[_Batch] = []
        waiting = deque(enumerate(runs))
        over: dict[int, Any] = {}  # messages for which a run's last batch had no room
        refused: RefusedError | None = None
        try:
            while waiting:
                index, run = waiting.popleft()
                batch, now = new_batch(self._sizes.batch(run.topic)), int(time.time() * 1000)
                count = 0
                # The batch's own append is twice as slow; it also counts, which is done below.
                append = batch._builder.append
                messages = chain([over.pop(index)], run.messages) if index in over else run.messages
                for key, value, headers in messages:
                    size = len(value or b"") + len(key or b"")
                    if size > MESSAGE_BYTES:
                        raise RefusedError(f"too large for the topic: {size} bytes", reason="too-large")
                    if append(count, now, key, value, headers) is None:
                        over[index] = (key, value, headers)
                        waiting.append((index, run))
                        break
                    count += 1
                if not count:
                    continue
                try:  # the first message is put into any batch
                    await self._sizes.refuse_larger(producer.client, run.topic, batch.size())
                except RefusedError as error:
                    # Without the rest of its run, which the caller sends again.
                    refused = error
                    over.pop(index, None)
                    waiting = deque(one for one in waiting if one[0] != index)
                    continue
                batch._relative_offset = count
                batch.close()
                sent = await producer.send_batch(batch, run.topic, partition=run.partition)
                batches.append(_Batch(index, run.topic, count, sent))
                self._count(run.topic, count, batch.size())
                self._open.add(sent)
                sent.add_done_callback(self._open.discard)
                await asyncio.sleep(0)  # it can be sent while the next one is made
            if refused is not None:
                raise refused
        except BaseException:
            # Whatever was passed on will be sent; the caller must not return before the result is known.
            await asyncio.gather(*(batch.sent for batch in batches), return_exceptions=True)
            raise
        return batches


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
    """A batch that aiokafka has; ``run``: the index of its run, ``messages``: their number."""

    run: int
    topic: str
    messages: int
    sent: asyncio.Future[Any]


async def _places(batches: Sequence[_Batch]) -> list[list[tuple[int, int]]]:
    """For each run the offsets where its batches begin, and their numbers of messages."""
    outcomes = await asyncio.gather(*(batch.sent for batch in batches), return_exceptions=True)
    places: dict[int, list[tuple[int, int]]] = {}
    for batch, outcome in zip(batches, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            raise outcome
        places.setdefault(batch.run, []).append((int(outcome.offset), batch.messages))
    return [places[index] for index in sorted(places)]


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
