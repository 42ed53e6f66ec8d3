"""aiokafka's sender, in which a partition that cannot be written waits alone.

aiokafka's own has one request a node under way, with a batch of each partition. A partition that has no
leader makes it ask for metadata without a pause, and only then look at the others; one that is refused (too
few in-sync replicas) holds each request of its node back; one with a slow replica holds the answer back for
all partitions of the request, up to the request's time-out. After 40 s without a leader it gives a batch up,
though nobody knows whether it was written and its number is used.

Here brokers answer soon, for each partition by itself. One that failed goes in requests of its own, over a
connection of its own (a broker takes one request of a connection at a time), with a pause between the tries,
and nothing is given up before it is written, refused, or taken back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import structlog
from aiokafka.client import ConnectionGroup
from aiokafka.errors import (
    DuplicateSequenceNumber,
    KafkaError,
    KafkaStorageError,
    LeaderNotAvailableError,
    NoError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderForPartitionError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.producer.sender import Sender as AioSender
from aiokafka.producer.sender import SendProduceReqHandler
from aiokafka.structs import TopicPartition

from connectors.kafka.gate import GatedClient, LeaseAwayError
from connectors.kafka.sending.held_partitions import HeldPartitions
from streams.core.errors import LeaseLostError
from streams.core.records import Outage, Partition
from streams.ports.kafka import Lease

log = structlog.get_logger()

# How long a broker may wait for its replicas before it answers; an idempotent batch is simply sent again.
ANSWER_SECONDS = 3.0
# A partition that was not answered for so long is held; others are not to wait with it.
SLOW_SECONDS = 2.0
_METADATA_PAUSE = 0.1
# Of one request; brokers take 100 MB by default.
_REQUEST_BYTES = 16_000_000
_LOOK_AGAIN = 0.02
_APART = "apart"  # the connections of partitions that failed

_Lane = tuple[int, Any]  # a node, and the group of its connection


class PartitionSender(AioSender):
    """Sends for one producer, while its lease is held and until it is fenced. Set up by `take_over`."""

    client: Any
    fenced = False

    @classmethod
    def take_over(
        cls,
        own: AioSender,
        lease: Lease | None,
        outages: dict[Partition, Outage],
        written: Callable[[str, int, int], None] = lambda topic, messages, size: None,
    ) -> PartitionSender:
        """In the place of a producer's ``own``. Sends only while ``lease`` is held; None: always. Keeps in
        ``outages`` the partitions that wait alone; others may keep theirs there, too. Tells ``written`` of
        each batch, with its bytes as they were sent."""
        sender = cls(
            own.client,
            acks=own._acks,
            txn_manager=own._txn_manager,
            message_accumulator=own._message_accumulator,
            retry_backoff_ms=int(own._retry_backoff * 1000),
            request_timeout_ms=int(ANSWER_SECONDS * 1000),
        )
        sender._lease = lease
        sender.client = GatedClient(own.client, sender._may_send)
        sender.held = HeldPartitions(outages)
        sender.written = written
        return sender

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._lease: Lease | None = None
        self.held = HeldPartitions({})
        self.written: Callable[[str, int, int], None]
        self._under_way: dict[_Lane, tuple[float, frozenset[Any]]] = {}  # since when, which partitions
        self._refreshing: asyncio.Future[Any] | None = None

    def fence(self) -> None:
        """Send nothing any more; what is not confirmed fails."""
        self.fenced = True
        self.held.close()
        self._fail_batches(LeaseLostError("taken back before it was confirmed"))

    def _fail_all(self, task: asyncio.Task[None]) -> None:
        """The loop has ended. aiokafka calls this."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("sender_failed", error=repr(error))
            self.held.close()
            self._fail_batches(KafkaError(f"unexpected {error!r}"))

    def _fail_batches(self, error: Exception) -> None:
        accumulator = self._message_accumulator
        batches = {one for some in accumulator._batches.values() for one in some}
        # Each that was tried takes itself out of these once it is settled, one that waits for a try as well.
        accumulator._pending_batches |= batches
        accumulator.fail_all(error)
        for batch in batches:
            if batch._drain_waiter.done():
                batch._drain_waiter.exception()  # nobody else may ask

    # --- the loop ---

    async def _sender_routine(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                await self._maybe_wait_for_pid()
                now = time.monotonic()
                for (node, group), batches in self._drained(now).items():
                    self._under_way[node, group] = now, frozenset(batches)
                    self._muted_partitions.update(batches)
                    sending = self._send_produce_req(node, batches, group)
                    tasks.add(asyncio.get_running_loop().create_task(sending))
                self._look_at_answers(now)
                self.held.say(now)
                refreshing = {self._refreshing} if self._refreshing is not None else set()
                until_next = self._until_next(now)
                self._message_accumulator.next_look = now + (
                    until_next if until_next is not None else float("inf")
                )
                done, _ = await asyncio.wait(
                    {*tasks, *refreshing, self._message_accumulator.waiter()},
                    timeout=until_next,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in tasks & done:
                    task.result()
                tasks -= done
                if self._refreshing in done:
                    self._refreshing = None
        except asyncio.CancelledError:
            pass  # `close` awaits the end
        finally:
            if self._refreshing is not None:
                self._refreshing.cancel()
            if tasks:
                await asyncio.wait(tasks)

    def _drained(self, now: float) -> dict[_Lane, dict[Any, Any]]:
        """The batches that can go out now, one a partition."""
        accumulator = self._message_accumulator
        found: dict[_Lane, dict[Any, Any]] = {}
        sizes: dict[_Lane, int] = {}
        for place in list(accumulator._batches) if not self.fenced else ():
            if place in self._muted_partitions or self._due(place) > now:
                continue
            node = self.client.cluster.leader_for_partition(place)
            if node is None or node == -1:
                self.held.hold(place, "it has no leader", now)
                self._refresh()
                continue
            lane = node, _APART if place in self.held else ConnectionGroup.DEFAULT
            if lane in self._under_way:
                continue
            size = sizes.get(lane, 0) + accumulator._batches[place][0]._builder.size()
            if size > _REQUEST_BYTES and lane in found:
                continue  # those that went out now come last next time
            batch = accumulator._pop_batch(place)
            if batch.is_empty():
                batch.done_noack()
                self.held.release(place)
                continue
            sizes[lane] = size
            found.setdefault(lane, {})[place] = batch
        if not accumulator._waiter_future.done():
            accumulator._waiter_future.set_result(None)
        accumulator._waiter_future = asyncio.get_running_loop().create_future()
        return found

    async def _send_produce_req(
        self, node_id: int, batches: dict[Any, Any], group: Any = ConnectionGroup.DEFAULT
    ) -> None:
        lane = node_id, group
        try:
            while not self.fenced:
                if self._may_send():
                    self._under_way[lane] = time.monotonic(), frozenset(batches)
                    with contextlib.suppress(LeaseAwayError):  # nothing was written
                        await _Produce(self, batches).send(node_id, group)
                        break
                self._under_way[lane] = float("inf"), frozenset(batches)
                await asyncio.sleep(_LOOK_AGAIN)
            else:
                for batch in batches.values():
                    batch.failure(exception=LeaseLostError("taken back before it was sent"))
        finally:
            del self._under_way[lane]
            self._muted_partitions.difference_update(batches)

    def _may_send(self) -> bool:
        return not self.fenced and (self._lease is None or self._lease.held())

    def _look_at_answers(self, now: float) -> None:
        """Those whose broker does not answer are held; which of a request's partitions it waits for, its
        answer will tell."""
        for (node, _), (since, places) in self._under_way.items():
            if now - since >= SLOW_SECONDS:
                for place in places:
                    if place not in self.held:
                        self.held.hold(place, _SILENT.format(node), now)

    def _refresh(self) -> None:
        """Ask for metadata, after a pause."""

        async def refresh() -> None:
            await asyncio.sleep(_METADATA_PAUSE)
            await self.client.force_metadata_update()

        if self._refreshing is None:
            self._refreshing = asyncio.ensure_future(refresh())

    def _due(self, place: Any) -> float:
        """From when on the first batch of ``place`` may go out.

        All of one round compare it with one reading of the clock. aiokafka's ``remaining_linger`` reads the
        clock itself: a batch that became due between two of its calls lingered for the first, needed no timer
        for the second, and waited until something else woke the loop.
        """
        if (again := self.held.again(place)) is not None:
            return again
        batch = self._message_accumulator._batches[place][0]
        at_once = batch._builder.closed() or self._message_accumulator.crowded
        return float("-inf") if at_once else float(batch._ctime + batch._linger_time)

    def _until_next(self, now: float) -> float | None:
        """Seconds until something has to be looked at, whatever happens meanwhile. What is due and did not go
        out waits for a request under way, whose end wakes the loop."""
        muted = self._muted_partitions
        moments = [self._due(place) for place in self._message_accumulator._batches if place not in muted]
        moments += self.held.unsaid()
        moments += [min(since, now) + SLOW_SECONDS for since, _ in self._under_way.values()]
        return min((moment - now for moment in moments if moment > now), default=None)


class _Produce(SendProduceReqHandler):
    """One request; each partition of the answer counts by itself."""

    async def send(self, node: int, group: Any) -> None:
        request = self.create_request()
        try:
            response = await self._client.send(node, request, group=group)
        except KafkaError as error:
            for batch in self._batches.values():
                self._failed(batch, error, _SILENT.format(node))
            return
        for topic, partitions in response.topics:
            for number, code, offset, *more in partitions:
                batch = self._batches[TopicPartition(topic, number)]
                kind = for_code(code)
                if kind in (NoError, DuplicateSequenceNumber):  # one of an older try was written
                    batch.done(offset, *more[:2])
                    self._sender.written(topic, batch.record_count, batch._builder.size())
                    self._sender.held.release(batch.tp)
                else:
                    # aiokafka tells a size that a broker refuses by the lack of a text.
                    told = kind(topic) if kind is TopicAuthorizationFailedError else kind()
                    self._failed(batch, told, _REASONS.get(kind, kind.__name__))

    def _failed(self, batch: Any, error: KafkaError, reason: str) -> None:
        if getattr(error, "invalid_metadata", False):
            self._client.force_metadata_update()
        if error.retriable and not self._sender.fenced:
            self._sender._message_accumulator.reenqueue(batch)
            self._sender.held.hold(batch.tp, reason, time.monotonic())
        else:
            batch.failure(exception=error)
            self._sender.held.release(batch.tp)


_SILENT = "its leader, broker {}, does not answer"
_REASONS = {
    NotLeaderForPartitionError: "its leader has changed",
    LeaderNotAvailableError: "it has no leader",
    NotEnoughReplicasError: "it has fewer in-sync replicas than min.insync.replicas",
    NotEnoughReplicasAfterAppendError: "it has fewer in-sync replicas than min.insync.replicas",
    RequestTimedOutError: "an in-sync replica is slow",
    KafkaStorageError: "its leader's disk fails",
}
