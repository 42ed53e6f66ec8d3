"""The producer: idempotent, not transactional, and silent without a lease.

aiokafka resends a batch until the brokers confirm it, and the sequence numbers keep that from
doubling anything. What it lacks is a way to take back what it has not sent yet: `fence` does that,
by giving up the whole producer and beginning a new one under a new producer id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, OutOfOrderSequenceNumber, ProducerClosed

from connectors.kafka.connection import MESSAGE_BYTES
from connectors.kafka.errors import translate
from connectors.kafka.gate import GatedSender
from streams.errors import LabelstreamError, LeaseLostError, RefusedError, UnavailableError
from streams.ports import Lease, Outgoing

log = structlog.get_logger()

LINGER_MS = 5
BATCH_BYTES = 900_000
_RETRY_SECONDS = 0.2


class LeasedProducer:
    """Implements `streams.ports.Sender`. With ``lease=None`` nothing holds it back (tools, tests)."""

    def __init__(self, connection: dict[str, Any], lease: Lease | None = None) -> None:
        self._connection = connection
        self._lease = lease
        self._current: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._alone = asyncio.Lock()
        self._retired: set[AIOKafkaProducer] = set()
        self._disposals: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect.

        Raises:
            UnavailableError, AccessError: as `connectors.kafka.errors` maps them.
        """
        await self._producer()

    async def stop(self) -> None:
        """Send what is waiting, then close."""
        producer, self._current = self._current, None
        if producer is not None:
            await producer.stop()
        await asyncio.gather(*self._disposals, return_exceptions=True)

    def fence(self) -> None:
        """Take back everything that is not confirmed: it fails with LeaseLostError and is not sent.

        Only what is on its way to the broker at this moment may still be written.
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
                return int((await asyncio.shield(future)).offset)
            except Exception as error:
                await self._recover(producer, error, handed_over)
                if _size_refused_by_broker(error):
                    return await self._send_alone(message)

    async def send_many(self, messages: Sequence[Outgoing]) -> list[int]:
        producer = await self._producer()
        try:
            return await _send_batches(producer, messages)
        except Exception as error:
            failed = translate(error)
            if isinstance(failed, LeaseLostError):
                raise failed from error
            if not isinstance(error, LabelstreamError):
                self._drop(producer)
            raise failed from error

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
            gated = GatedSender(
                own.client,
                acks=own._acks,
                txn_manager=own._txn_manager,
                message_accumulator=own._message_accumulator,
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
        """Go on with a new producer; the old one sends what it has, for other partitions are in order."""
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
        """Raise what the caller must know; otherwise make ready for another try."""
        if isinstance(error, MessageSizeTooLargeError) and error.args:
            raise translate(error) from error  # refused here, before it was given a sequence number
        if _size_refused_by_broker(error) or isinstance(error, (OutOfOrderSequenceNumber, ProducerClosed)):
            # A refused batch leaves a hole in its partition's sequence numbers: only a new producer id
            # heals that. What is refused for its number was not written.
            self._retire(producer)
            return
        failed = translate(error)
        if not isinstance(failed, UnavailableError):
            raise failed from error
        if handed_over:
            # aiokafka tries for ever what may have been written; if it gave up nevertheless (no leader for
            # long), another try could double it. Whoever owns the partition next learns what is there.
            raise LeaseLostError(f"nobody knows whether it was written: {failed}") from error
        log.warning("send_retried", error=str(failed))
        await asyncio.sleep(_RETRY_SECONDS)

    async def _send_alone(self, message: Outgoing) -> int:
        """The broker refused a batch for its size. Alone, each message learns whether it was its own."""
        async with self._alone:
            producer = await self._producer()
            try:
                return (await _send_batches(producer, [message]))[0]
            except Exception as error:
                self._retire(producer)
                raise translate(error) from error


async def _send_batches(producer: AIOKafkaProducer, messages: Sequence[Outgoing]) -> list[int]:
    """Send through aiokafka's batch API, which costs a third of a future per message."""
    places: list[tuple[int, int]] = [(0, 0)] * len(messages)  # batch, position in it
    futures: list[asyncio.Future[Any]] = []
    open_batches: dict[tuple[str, int], tuple[Any, list[int]]] = {}

    async def close(where: tuple[str, int]) -> None:
        batch, members = open_batches.pop(where)
        batch.close()
        for position, member in enumerate(members):
            places[member] = (len(futures), position)
        futures.append(await producer.send_batch(batch, where[0], partition=where[1]))

    try:
        for index, message in enumerate(messages):
            size = len(message.value or b"") + len(message.key or b"")
            if size > MESSAGE_BYTES:
                raise RefusedError(f"too large for the topic: {size} bytes", reason="too-large")
            where = (message.topic, message.partition)
            for _ in range(2):
                if where not in open_batches:
                    open_batches[where] = (producer.create_batch(), [])
                batch, members = open_batches[where]
                appended = batch.append(
                    key=message.key, value=message.value, timestamp=None, headers=list(message.headers)
                )
                if appended is not None:
                    members.append(index)
                    break
                await close(where)
        for where in list(open_batches):
            await close(where)
    finally:
        # Whatever was handed over goes out; the caller must not return before it is known how.
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
    bases: list[int] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        bases.append(int(outcome.offset))
    return [bases[batch] + position for batch, position in places]


def _size_refused_by_broker(error: Exception) -> bool:
    return isinstance(error, MessageSizeTooLargeError) and not error.args


async def _dispose(producer: AIOKafkaProducer) -> None:
    """Close without sending: connections first, so that no retry finds one."""
    producer._closed = True
    try:
        await producer.client.close()
        if producer._sender.sender_task is not None:
            producer._sender.sender_task.cancel()
            await asyncio.wait([producer._sender.sender_task], timeout=60)
    except (KafkaError, OSError) as error:
        log.debug("producer_disposed", error=str(error))
