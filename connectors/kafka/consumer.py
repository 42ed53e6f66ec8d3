"""A consumer group member with a producer of its own (Faust provides that of the agents).

Ownership comes in sessions: the group assigns partitions, a task works on them, the group revokes them. The
task may finish before it is cancelled. A member that the group has already removed (after a long pause) is
fenced instead, because it may not write any more.

aiokafka only logs exceptions of a rebalance listener; after a failed listener a member would have partitions
that nobody works on. So the listener only starts and ends tasks, and each of their failures is retried or
ends `GroupConsumer.join`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from connectors.kafka.connection import member_arguments, start_client
from connectors.kafka.errors import SETTING, translate
from connectors.kafka.lease import GroupLease
from connectors.kafka.membership import request_positions_at_once
from connectors.kafka.producer import LeasedProducer
from connectors.kafka.tail import to_record
from streams.core.errors import LeaseLostError, RetryableError, UnavailableError
from streams.core.records import Commit, Partition, Record
from streams.core.topics import ConsumerGroup

log = structlog.get_logger()

SETTLE_SECONDS = 4.0
_FETCH_BYTES = 1_000_000
# How soon a failure of aiokafka's own tasks is noticed.
LOOK_SECONDS = 1.0
WORK_PAUSE = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_REJOIN_SECONDS = 1.0


class Session:
    """One assignment of partitions. Implements `streams.ports.kafka.GroupInput`."""

    def __init__(
        self, consumer: AIOKafkaConsumer, generation: int, committed: Mapping[Partition, Commit]
    ) -> None:
        self.generation = generation
        self.committed = committed  # position and metadata of the group, offset -1 for none
        self.done = {partition: commit.offset for partition, commit in committed.items()}
        self.ending = asyncio.Event()  # set when the group revokes the partitions
        self._consumer = consumer
        self._fetching: asyncio.Task[Any] | None = None

    @property
    def partitions(self) -> frozenset[Partition]:
        return frozenset(self.committed)

    async def fetch(self, *, seconds: float, most: int) -> list[Record]:
        if self.ending.is_set():
            raise LeaseLostError("the group takes its partitions back")
        fetching = asyncio.ensure_future(
            self._consumer.getmany(timeout_ms=max(0, int(seconds * 1000)), max_records=most)
        )
        self._fetching = fetching
        try:
            batches = await fetching
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.ending.is_set() and not (task and task.cancelling()):
                raise LeaseLostError("the group takes its partitions back") from None
            raise
        except Exception as error:
            raise translate(error) from error
        if self.ending.is_set():
            raise LeaseLostError("the group takes its partitions back")
        return [to_record(message) for messages in batches.values() for message in messages]

    async def end(self) -> None:
        """Stop fetching. During a rebalance aiokafka holds a fetch until partitions are assigned again, and
        returns records of these: they would be lost, because they do not belong to this session.
        """
        self.ending.set()
        if self._fetching is not None and not self._fetching.done():
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def commit(self, positions: Mapping[Partition, Commit]) -> None:
        if not positions:
            return
        offsets = {
            TopicPartition(*partition): OffsetAndMetadata(commit.offset, commit.metadata)
            for partition, commit in positions.items()
        }
        try:
            await self._consumer.commit(offsets)
        except Exception as error:
            raise translate(error) from error
        self.committed = {**self.committed, **positions}
        self.done |= {partition: commit.offset for partition, commit in positions.items()}

    def seek(self, positions: Mapping[Partition, int]) -> None:
        try:
            for partition, offset in positions.items():
                self._consumer.seek(TopicPartition(*partition), offset)
        except Exception as error:
            raise translate(error) from error


class GroupConsumer:
    """Membership in one consumer group, its lease, and a producer that sends while the lease is valid.

    When the group has removed this member, unsent messages of the producer are dropped.
    """

    def __init__(
        self,
        connection: dict[str, Any],
        group: ConsumerGroup,
        *,
        lease: GroupLease | None = None,
        producer: LeasedProducer | None = None,
    ) -> None:
        """``lease`` and ``producer``: those of this member, if they exist already."""
        self.lease = lease or GroupLease()
        self.producer = producer or LeasedProducer(connection, self.lease)
        self._topics = group.topics
        self._arguments = {
            **connection,
            **member_arguments(group.name),
            "max_partition_fetch_bytes": _FETCH_BYTES,
        }
        self._work: Callable[[Session], Awaitable[None]] | None = None
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._failed: asyncio.Future[None] | None = None

    def done(self) -> dict[Partition, int]:
        """The committed offset of each owned partition, -1 for none; empty between sessions."""
        return dict(self._session.done) if self._session is not None else {}

    async def run(self, work: Callable[[Session], Awaitable[None]]) -> None:
        """As `join`, and join again whenever Kafka was down; closes the producer at the end.

        Raises:
            whatever ``work`` raises except retryable errors; AccessError.
        """
        try:
            while True:
                try:
                    await self.join(work)
                except RetryableError as error:
                    setting = error.setting if isinstance(error, UnavailableError) else ""
                    log.warning("waiting for Kafka", reason=str(error), setting=setting or SETTING)
                await asyncio.sleep(_REJOIN_SECONDS)
        finally:
            await self.producer.stop()

    async def join(self, work: Callable[[Session], Awaitable[None]]) -> None:
        """Join, and run ``work`` for each session, until cancelled.

        ``work`` should end soon after its session's ``ending`` is set, or raise LeaseLostError.

        Raises:
            whatever ``work`` raises except LeaseLostError; UnavailableError, AccessError.
        """
        self._work = work
        self._failed = asyncio.get_running_loop().create_future()
        consumer = AIOKafkaConsumer(**self._arguments)
        try:
            try:
                await start_client(consumer, consumer.stop)
                self.lease.attach(consumer)
                request_positions_at_once(consumer)
                consumer.subscribe(list(self._topics), listener=_Listener(self, consumer))
            except Exception as error:
                raise translate(error) from error
            await self._watch(consumer)
        finally:
            try:
                await self._end_session()
            finally:
                # In a task of its own: when a task of the client was cancelled, to stop it raises that, too.
                stopping = asyncio.ensure_future(consumer.stop())
                await asyncio.wait([stopping])
                with contextlib.suppress(Exception, asyncio.CancelledError):
                    stopping.result()

    async def _watch(self, consumer: AIOKafkaConsumer) -> None:
        """Wait until something has failed, and raise it."""
        assert self._failed is not None
        while True:
            await asyncio.wait([self._failed], timeout=LOOK_SECONDS)
            if self._failed.done():
                self._failed.result()
            raise_failed_tasks(consumer)

    def _fail(self, error: Exception) -> None:
        """Make `join` end with ``error``."""
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    # --- the listener: called by aiokafka, which drops exceptions ---

    async def _revoked(self) -> None:
        try:
            await self._end_session()
        except Exception as error:
            self._fail(error)

    async def _assigned(self, consumer: AIOKafkaConsumer, places: set[TopicPartition]) -> None:
        await self._revoked()
        if places:
            # Not awaited: no heartbeat is sent before the listener returns.
            owning = self._own(consumer, places, self.lease.generation)
            self._task = asyncio.get_running_loop().create_task(owning)

    # --- a session ---

    async def _own(self, consumer: AIOKafkaConsumer, places: set[TopicPartition], generation: int) -> None:
        try:
            committed = await self._committed(consumer, places, generation)
            if committed is not None:
                self._session = Session(consumer, generation, committed)
                await self._run_work(self._session)
        except Exception as error:
            self._fail(error)

    async def _committed(
        self, consumer: AIOKafkaConsumer, places: set[TopicPartition], generation: int
    ) -> dict[Partition, Commit] | None:
        """The group's committed positions of ``places``, requested until it answers; None if the generation
        ends first.

        Raises:
            AccessError, ConfigurationError: it will never answer.
        """
        pause, said = _FIRST_PAUSE, ""
        while self.lease.generation == generation:
            try:
                await self.lease.renew()
                # The coordinator keeps offset and metadata together; the public API returns the offset only.
                found = await consumer._coordinator.fetch_committed_offsets(sorted(places))
            except Exception as error:
                failed = translate(error)
                if not isinstance(failed, RetryableError):
                    raise failed from error
                if str(failed) != said:
                    said = str(failed)
                    log.warning("assignment_retried", partitions=len(places), reason=said)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            return {
                Partition(*place): Commit(at.offset, at.metadata) if (at := found.get(place)) else Commit(-1)
                for place in sorted(places)
            }
        return None

    async def _run_work(self, session: Session) -> None:
        assert self._work is not None
        while not session.ending.is_set():
            try:
                await self._work(session)
                return
            except LeaseLostError as lost:
                if session.ending.is_set() or self.lease.generation != session.generation:
                    return
                # Still a member of the same generation: no partition was lost.
                log.warning("work_resumed", reason=str(lost))
                pause = WORK_PAUSE / 5
            except RetryableError as error:
                log.warning("work_resumed", reason=str(error))
                pause = error.after or WORK_PAUSE
            # What the next try does not find written must not be written behind its back.
            self.producer.fence_unconfirmed()
            await asyncio.sleep(pause)

    async def _end_session(self) -> None:
        session, self._session = self._session, None
        task, self._task = self._task, None
        if task is None:
            return
        try:
            if session is None:
                return  # it had not started: there is nothing to finish
            await session.end()
            owner = self.lease.generation == session.generation and self.lease.held()
            if not owner:
                self.producer.fence()
            # A removed member has nothing to finish: others have its partitions.
            await asyncio.wait([task], timeout=SETTLE_SECONDS if owner else 0.1)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=SETTLE_SECONDS)
            self.producer.fence_unconfirmed()


def raise_failed_tasks(consumer: AIOKafkaConsumer) -> None:
    """Raise the error of a failed background task of aiokafka's ``consumer``, which does not raise it by
    itself.

    Raises:
        UnavailableError, AccessError: the consumer will read, or own, nothing any more.
    """
    for task in (consumer._fetcher._fetch_task, consumer._client._sync_task):
        if task is not None and task.done() and not task.cancelled() and (error := task.exception()):
            raise UnavailableError(f"Kafka's client has failed: {error!r}", setting=SETTING) from error
    try:
        consumer._coordinator.check_errors()
    except asyncio.CancelledError:
        # A task for which the coordinator's own waits was cancelled. Here it would pass for the caller's end.
        reason = "Kafka's client has failed: its group task was cancelled"
        raise UnavailableError(reason, setting=SETTING) from None
    except Exception as error:
        raise translate(error) from error


class _Listener(ConsumerRebalanceListener):
    def __init__(self, group: GroupConsumer, consumer: AIOKafkaConsumer) -> None:
        self._group = group
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Any) -> None:
        await self._group._revoked()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        await self._group._assigned(self._consumer, set(assigned))
