"""The Faust app of the agents: the only module that imports Faust.

Faust provides membership in the consumer group, fetching, and one agent for each stage. It does not
acknowledge or commit: its own bookkeeping skips unfinished messages (see docs/internals/adr/0002). So nothing
is ever acknowledged to Faust, and `streams/delivery/delivery.py` commits its own positions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver

from connectors.kafka.connection import HEARTBEAT_SECONDS, POLL_INTERVAL_MS, SESSION_SECONDS, member_arguments
from connectors.kafka.consumer import LOOK_SECONDS, raise_failed_tasks
from connectors.kafka.lease import GroupLease
from connectors.kafka.membership import request_positions_at_once
from connectors.kafka.tail import to_record
from streams.core.records import Commit, Partition, Record
from streams.pipeline.fair_fetch import Turns

POLL_RECORDS = 200


Offer = Callable[[Sequence[Record], int], None]


class Worker(Protocol):
    """What the consumer needs of its process."""

    connection: dict[str, Any]
    lease: GroupLease
    turns: Turns[Any]

    def fail(self, error: Exception) -> None:
        """Nobody else handles ``error``: the process must end with it."""

    def owed(self) -> dict[Partition, int]:
        """The next offset to read of each owned partition."""

    def crowded(self) -> set[Partition]:
        """Partitions with enough waiting messages."""

    def to_seek(self) -> dict[Partition, int]:
        """Partitions to be read from a later offset on; each is returned once."""


class _DaemonThread(driver.AIOKafkaConsumerThread.Worker):
    """A consumer thread that does not stop in time must not keep the process alive."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.daemon = True


class _Thread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread with our consumer, security settings, range assignment, and the lease."""

    Worker = _DaemonThread

    def __init__(self, consumer: Any, *, loop: Any, **named: Any) -> None:
        # Of the main thread's kind: that of uvloop takes less time than Python's own.
        super().__init__(consumer, loop=loop, thread_loop=type(loop)(), **named)
        self._close_thread_loop_on_stop = True

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self.app.agents_worker.connection,
            # Range assignment: live rows and replays of one partition number are written to one output
            # partition by one worker.
            **member_arguments(self.app.conf.id),
            max_poll_records=POLL_RECORDS,
        )

    async def on_start(self) -> None:
        await super().on_start()
        self.app.agents_worker.lease.attach(self._consumer)
        request_positions_at_once(self._consumer)
        self.add_future(self._watch_client())

    async def _watch_client(self) -> None:
        """Faust does not check whether the client's tasks have failed."""
        try:
            while not self.should_stop:
                raise_failed_tasks(self._ensure_consumer())
                await asyncio.sleep(LOOK_SECONDS)
        except Exception as error:
            self.app.loop.call_soon_threadsafe(self.app.agents_worker.fail, error)

    def verify_event_path(self, now: float, tp: Any) -> None:
        """Faust's watchdog judges by acknowledgements, which it never gets here."""

    async def getmany_in_turn(self, choices: Sequence[set[Any]], timeout: float) -> Any:
        """Messages of the first of ``choices`` that has some; only the last one may wait for ``timeout``. A
        single call of the thread, and not by Faust's queue, which makes several tasks for each call.
        """
        found = asyncio.run_coroutine_threadsafe(self._getmany_in_turn(choices, timeout), self.thread_loop)
        return await asyncio.wrap_future(found)

    async def _getmany_in_turn(self, choices: Sequence[set[Any]], timeout: float) -> Any:
        consumer = self._ensure_consumer()
        *first, every = choices
        for choice in first:
            if found := await self._fetch_records(consumer, choice, 0.0, POLL_RECORDS):
                return found
        return await self._fetch_records(consumer, every, timeout, POLL_RECORDS)

    async def renew_lease(self) -> None:
        await self.call_thread(self.app.agents_worker.lease.renew)

    async def committed(self, partitions: Sequence[Any]) -> dict[Partition, Commit]:
        return await self.call_thread(self._committed, partitions)  # type: ignore[no-any-return]

    async def _committed(self, partitions: Sequence[Any]) -> dict[Partition, Commit]:
        places = [TopicPartition(tp.topic, tp.partition) for tp in partitions]
        found = await self._ensure_consumer()._coordinator.fetch_committed_offsets(places)
        commits = {}
        for place in places:
            at = found.get(place)
            commits[Partition(place.topic, place.partition)] = (
                Commit(at.offset, at.metadata) if at is not None else Commit(-1)
            )
        return commits

    async def commit_positions(self, positions: Mapping[Partition, Commit]) -> None:
        await self.call_thread(self._commit_positions, positions)

    async def _commit_positions(self, positions: Mapping[Partition, Commit]) -> None:
        await self._ensure_consumer().commit(
            {
                TopicPartition(*partition): OffsetAndMetadata(commit.offset, commit.metadata)
                for partition, commit in positions.items()
            }
        )


class _Listener(driver.ConsumerRebalanceListener):
    """Called by aiokafka in the consumer's thread; its exceptions are only logged there."""

    def on_partitions_revoked(self, revoked: Any) -> Awaitable[Any]:
        return self._owned(super().on_partitions_revoked, revoked)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        await self._owned(super().on_partitions_assigned, assigned)

    async def _owned(self, listen: Callable[[Any], Awaitable[Any]], partitions: Any) -> None:
        try:
            await listen(partitions)
        except Exception as error:
            app = self._thread.app
            app.loop.call_soon_threadsafe(app.agents_worker.fail, error)


class _Consumer(driver.Consumer):
    """Does not fetch from crowded partitions. Faust's own pausing drops fetched messages.

    One event holds all messages of one fetch from a topic: Faust makes several tasks for each event, and one
    for each message would double the cost.
    """

    RebalanceListener = _Listener

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Continue at the next expected offset. Faust tells the client to seek to the committed offset, which
        the client ignores for offset 0: messages that were fetched and dropped before would be skipped.
        """
        for partition, offset in self.app.agents_worker.owed().items():
            with contextlib.suppress(IllegalStateError):  # another rebalance has begun, and will seek again
                await self.seek(self._new_topicpartition(*partition), offset)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[Any, Any]]:
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        topics: dict[str, dict[Any, Any]] = {}
        for tp, found in (records or {}).items():
            if found and (active is None or tp in active):
                topics.setdefault(tp.topic, {})[tp] = found
        for partitions in topics.values():
            if self.should_stop or not self.flow_active or self.app.consumer_generation_id != generation:
                return
            tp, found = next(iter(partitions.items()))
            message = self._to_message(tp, found[-1])
            message.value = [[to_record(one) for one in found] for found in partitions.values()]
            # Faust would drop the event if it had read this partition further. Delivery looks at each offset.
            self._read_offset[tp] = None
            yield tp, message

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Faust would remember each event's offset for commits that it does not make."""

    async def _getmany(self, active_partitions: set[Any] | None, timeout: float) -> Any:
        for partition, offset in self.app.agents_worker.to_seek().items():
            with contextlib.suppress(IllegalStateError):  # as above
                await self.seek(self._new_topicpartition(*partition), offset)
        crowded = self.app.agents_worker.crowded()
        if active_partitions is not None and crowded:
            active_partitions = {tp for tp in active_partitions if (tp.topic, tp.partition) not in crowded}
            if not active_partitions:
                await asyncio.sleep(0.02)
                return {}
            timeout = min(timeout, 0.1)  # crowded partitions may be free by then
        turns = self.app.agents_worker.turns
        found = await self._thread.getmany_in_turn(turns.choices(active_partitions or ()), timeout)
        turns.served(found)
        return found


class _Fetched(faust.Schema):
    """The value of an event has a list of records for each partition; nothing is decoded here."""

    def compile(self, app: Any, **_: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, None, message)

        return decode


class _Producer(driver.Producer):
    """Faust's own producer is not started: outputs go through the producer with the lease."""

    async def on_start(self) -> None: ...

    async def on_stop(self) -> None: ...

    async def flush(self) -> None: ...


class _Transport(driver.Transport):
    Consumer = _Consumer
    Producer = _Producer


class _App(faust.App):
    agents_worker: Worker

    def _new_transport(self) -> _Transport:
        return _Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> _Transport:
        return _Transport(self.conf.broker_producer, self)


def make_app(worker: Worker, group: str, connection: Mapping[str, Any], data: Path) -> Any:
    """The app; it asks ``worker`` for expected offsets and crowded partitions. Starts nothing.

    ``connection``: aiokafka's arguments for connecting to Kafka. ``data``: a folder for Faust's own files.
    """
    # Every setting that Faust would otherwise read from unprefixed environment variables is set.
    app = _App(
        group,
        broker="kafka://" + connection["bootstrap_servers"].split(",")[0],
        datadir=str(data),
        store="memory://",
        cache="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        processing_guarantee="at_least_once",
        stream_wait_empty=False,
        stream_buffer_maxsize=4096,
        stream_recovery_delay=0.0,
        broker_max_poll_records=POLL_RECORDS,
        broker_max_poll_interval=POLL_INTERVAL_MS / 1000,
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=HEARTBEAT_SECONDS,
        broker_request_timeout=40.0,
        broker_commit_interval=3600.0,
        broker_commit_livelock_soft_timeout=POLL_INTERVAL_MS / 1000,
        stream_processing_timeout=POLL_INTERVAL_MS / 1000,
        logging_config=None,
    )
    app.agents_worker = worker
    return app


def add_agent(app: Any, name: str, topics: Sequence[str], offer: Offer) -> None:
    """An agent that passes what is read from ``topics`` to ``offer``: records of one partition and the
    generation in which they were read.
    """

    async def consume(stream: AsyncIterable[Any]) -> None:
        async for event in stream.noack().events():  # type: ignore[attr-defined]
            for records in event.value:
                offer(records, event.message.generation_id)

    app.agent(app.topic(*topics, schema=_Fetched()), name=name, concurrency=1)(consume)
