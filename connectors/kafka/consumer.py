"""A consumer group member for the poller and the sink (the agents' is Faust's).

Ownership comes in sessions: the group gives partitions, a task works on them, the group takes them
back. The work is given time to settle before it is cancelled; a member that the group has already
given up (a long pause) is fenced instead, for it may not write any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import OffsetAndMetadata

from connectors.kafka.connection import HEARTBEAT_SECONDS, POLL_INTERVAL_MS, SESSION_SECONDS
from connectors.kafka.errors import translate
from connectors.kafka.lease import GroupLease
from connectors.kafka.tail import to_record
from streams.core.errors import LeaseLostError, RetryableError
from streams.core.records import Commit, Partition, Record

log = structlog.get_logger()

SETTLE_SECONDS = 4.0
_FETCH_BYTES = 1_000_000


class Session:
    """One time of ownership. Implements `streams.ports.kafka.GroupInput`."""

    def __init__(
        self, consumer: AIOKafkaConsumer, generation: int, committed: Mapping[Partition, Commit]
    ) -> None:
        self.generation = generation
        self.committed = committed  # the position and metadata that the group holds, offset -1 for none
        self.done = {partition: commit.offset for partition, commit in committed.items()}
        self.ending = asyncio.Event()  # set when the group asks for the partitions back
        self._consumer = consumer
        self._fetching: asyncio.Task[Any] | None = None

    @property
    def partitions(self) -> frozenset[Partition]:
        return frozenset(self.committed)

    async def positions(self) -> dict[Partition, int]:
        """The next offset that each partition will be read from.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        try:
            return {p: await self._consumer.position(TopicPartition(*p)) for p in self.partitions}
        except Exception as error:
            raise translate(error) from error

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
        """Fetch no more. In a rebalance aiokafka holds a fetch back until partitions are assigned anew, and
        answers it with records of theirs: those would be lost, for they are not this session's."""
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
        self.done |= {partition: commit.offset for partition, commit in positions.items()}

    def seek(self, positions: Mapping[Partition, int]) -> None:
        for partition, offset in positions.items():
            self._consumer.seek(TopicPartition(*partition), offset)


class GroupConsumer:
    """Membership in one consumer group over some topics, and the lease that goes with it."""

    def __init__(
        self,
        connection: dict[str, Any],
        group: str,
        topics: tuple[str, ...],
        *,
        fence: Callable[[], None] | None = None,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self.lease = GroupLease()
        self._topics = topics
        self._fence = fence
        self._settle_seconds = settle_seconds
        self._arguments = {
            **connection,
            "group_id": group,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_uncommitted",
            "partition_assignment_strategy": (RangePartitionAssignor,),
            "session_timeout_ms": int(SESSION_SECONDS * 1000),
            "heartbeat_interval_ms": int(HEARTBEAT_SECONDS * 1000),
            "max_poll_interval_ms": POLL_INTERVAL_MS,
            "rebalance_timeout_ms": 30_000,
            "max_partition_fetch_bytes": _FETCH_BYTES,
            "fetch_max_wait_ms": 200,
            "retry_backoff_ms": 100,
            "metadata_max_age_ms": 30_000,
        }
        self._work: Callable[[Session], Awaitable[None]] | None = None
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._failed: asyncio.Future[None] | None = None

    def fence_with(self, fence: Callable[[], None]) -> None:
        """What to call when the group has given this member up: it must take back unsent output."""
        self._fence = fence

    def subscribe(self, topics: tuple[str, ...]) -> None:
        """The topics, where they are known only after the lease."""
        self._topics = topics

    async def positions(self) -> dict[Partition, int]:
        """The next offset that each owned partition will be read from; empty between sessions."""
        session = self._session
        return await session.positions() if session is not None else {}

    def done(self) -> dict[Partition, int]:
        """The offset that each owned partition is committed at, -1 for none; empty between sessions."""
        return dict(self._session.done) if self._session is not None else {}

    async def run(self, work: Callable[[Session], Awaitable[None]]) -> None:
        """Join, and run ``work`` for each time of ownership, until cancelled.

        ``work`` should end soon after its session's ``ending`` is set, or raise LeaseLostError.

        Raises:
            whatever ``work`` raises apart from LeaseLostError; UnavailableError, AccessError.
        """
        self._work = work
        self._failed = asyncio.get_running_loop().create_future()
        consumer = AIOKafkaConsumer(**self._arguments)
        try:
            try:
                await consumer.start()
                self.lease.attach(consumer)
                consumer.subscribe(list(self._topics), listener=_Listener(self, consumer))
            except Exception as error:
                raise translate(error) from error
            await self._failed
        finally:
            await self._end_session()
            with contextlib.suppress(Exception):
                await consumer.stop()

    async def _begin_session(self, consumer: AIOKafkaConsumer, assigned: set[TopicPartition]) -> None:
        if not assigned or self._work is None:
            return
        await self.lease.renew()
        committed: dict[Partition, Commit] = {}
        for place in sorted(assigned):
            # The coordinator keeps offset and metadata together; the public API gives the offset only.
            state = await consumer._coordinator.fetch_committed_offsets([place])
            found = state.get(place)
            committed[Partition(place.topic, place.partition)] = Commit(
                found.offset if found else -1, found.metadata if found else ""
            )
        session = Session(consumer, self.lease.generation, committed)
        self._session = session
        self._task = asyncio.get_running_loop().create_task(self._run_work(session))

    async def _run_work(self, session: Session) -> None:
        assert self._work is not None
        assert self._failed is not None
        try:
            while not session.ending.is_set():
                try:
                    await self._work(session)
                    return
                except LeaseLostError as lost:
                    if session.ending.is_set() or self.lease.generation != session.generation:
                        return
                    # Still a member of the same generation: nothing was taken from us.
                    log.warning("work_resumed", reason=str(lost))
                    await asyncio.sleep(0.2)
                except RetryableError as error:
                    log.warning("work_resumed", reason=str(error))
                    await asyncio.sleep(error.after or 1.0)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not self._failed.done():
                self._failed.set_exception(error)

    async def _end_session(self) -> None:
        session, self._session = self._session, None
        task, self._task = self._task, None
        if session is None or task is None:
            return
        await session.end()
        owner = self.lease.generation == session.generation and self.lease.held()
        if not owner and self._fence is not None:
            self._fence()
        # A member that was given up has nothing to settle: others have its partitions.
        await asyncio.wait([task], timeout=self._settle_seconds if owner else 0.1)
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=self._settle_seconds)
            if self._fence is not None:
                self._fence()


class _Listener(ConsumerRebalanceListener):
    def __init__(self, group: GroupConsumer, consumer: AIOKafkaConsumer) -> None:
        self._group = group
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Any) -> None:
        await self._group._end_session()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        await self._group._end_session()
        await self._group._begin_session(self._consumer, set(assigned))
