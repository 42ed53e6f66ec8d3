"""The right to publish replays: one process at a time, and none while a poller could publish the same rows.

Rows of the source table may be published before a poller ever ran. Without a poller's cursor it is unknown
which rows are the poller's. So the publisher meanwhile takes the poller's place in its group: no poller can
start. The first one that starts later reads the replay topic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from connectors.kafka.connection import connection
from connectors.kafka.consumer import GroupConsumer, Session
from connectors.kafka.lease import GroupLease
from connectors.kafka.producer import LeasedProducer
from streams.core.errors import LeaseLostError, UnavailableError
from streams.core.topics import ConsumerGroup
from streams.jobs.context import JobContext
from streams.ports.kafka import BulkSender, Lease


@dataclass(frozen=True)
class Leadership:
    """The right to write, for one generation of a group. ``sender`` writes only while ``lease`` is valid."""

    generation: int
    lease: Lease
    sender: BulkSender


Task = Callable[[Leadership], Awaitable[None]]


class ReplayPublisher:
    """Runs a task while no other process publishes replays; runs it again if that right is lost."""

    def __init__(self, context: JobContext, task: Task, group: ConsumerGroup | None = None) -> None:
        """``group``: in which one publishes at a time, if it is not that of replays."""
        self._group = GroupConsumer(connection(context.settings), group or context.topics.groups.replay)
        self._task = task
        self._done = asyncio.Event()

    async def run(self) -> None:
        """Run until the task has returned.

        Raises:
            whatever the task raises except retryable errors; AccessError.
        """
        await _run_until(self._done, self._group.run(self._work))

    async def _work(self, session: Session) -> None:
        await self._task(Leadership(session.generation, self._group.lease, self._group.producer))
        self._done.set()


class PollerSubstitute:
    """Runs a task for an owner of the replay group that is also the only member of the poller's group."""

    def __init__(self, context: JobContext, owner: Leadership, task: Task) -> None:
        self._context = context
        self._owner = owner
        self._task = task
        lease = GroupLease()
        self._lease = _BothLeases(owner.lease, lease)
        self._group = GroupConsumer(
            connection(context.settings),
            context.topics.groups.poller,
            lease=lease,
            producer=LeasedProducer(connection(context.settings), self._lease),
        )
        self._ended = asyncio.Event()
        self._done = False
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Run until the task has returned.

        Raises:
            UnavailableError: a poller is running or starting; soon its cursor will say which rows are its
                own.
            LeaseLostError: another process publishes now.
            whatever the task raises.
        """
        starts = UnavailableError("a poller begins, and says soon which rows are its own", after=2.0)
        name = self._context.topics.groups.poller.name
        if (await self._context.lags.members([name]))[name]:
            raise starts
        try:
            await _run_until(self._ended, self._group.join(self._work))
        finally:
            await self._group.producer.stop()
        if self._done:
            return
        if self._owner.lease.generation != self._owner.generation:
            raise LeaseLostError("another publishes now")
        raise self._failure or starts

    async def _work(self, session: Session) -> None:
        self._lease.begin(session.generation)
        try:
            await self._task(Leadership(self._owner.generation, self._lease, self._group.producer))
            self._done = True
        except LeaseLostError:
            raise
        except Exception as error:
            # Not raised here: the group would close itself, and a cancellation meanwhile would interrupt
            # that.
            self._failure = error
        finally:
            self._ended.set()


class _BothLeases:
    """Two leases as one. Its generation is that of the first one."""

    def __init__(self, first: Lease, second: Lease) -> None:
        self._first = first
        self._second = second
        self._second_generation = -1

    def begin(self, generation: int) -> None:
        """The second lease is valid for this generation only."""
        self._second_generation = generation

    @property
    def generation(self) -> int:
        return self._first.generation

    def held(self) -> bool:
        return (
            self._first.held() and self._second.held() and self._second.generation == self._second_generation
        )

    async def hold(self, generation: int) -> None:
        await self._first.hold(generation)
        await self._second.hold(self._second_generation)


async def _run_until(ended: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` until ``ended`` is set; raises the error that ends it before."""
    working, waiting = asyncio.ensure_future(work), asyncio.create_task(ended.wait())
    try:
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not ended.is_set():
            working.result()
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.wait([working, waiting])
