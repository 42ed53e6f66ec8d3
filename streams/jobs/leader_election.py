"""Publishing rows of the source table where there never was a poller.

Without its cursor nobody knows which rows are the poller's own. So who publishes takes its place in the
poller's group meanwhile: none can begin, and the first that does reads what was published
on the replay topic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from connectors.kafka.connection import connection
from connectors.kafka.consumer import GroupConsumer, Session
from connectors.kafka.producer import LeasedProducer
from streams.core.availability import again
from streams.core.errors import LeaseLostError, UnavailableError
from streams.jobs.context import JobContext
from streams.ports.kafka import Lease, Sender

Do = Callable[[int, Lease, Sender], Awaitable[None]]


class _Both:
    """Two leases as one. Its generation is the first one's."""

    def __init__(self, first: Lease, second: Lease) -> None:
        self._first = first
        self._second = second
        self._second_generation = -1

    def begin(self, generation: int) -> None:
        """The second lease is good for this generation only."""
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


async def instead_of_poller(tools: JobContext, generation: int, lease: Lease, do: Do) -> None:
    """Run ``do`` as the only member of the poller's group too.

    Raises:
        UnavailableError: a poller is there, or comes: soon it will have said which rows are its own.
        whatever ``do`` raises.
    """
    name = tools.topics.groups.poller.name
    comes = UnavailableError("a poller begins, and says soon which rows are its own", after=2.0)
    if (await tools.lags.members([name]))[name]:
        raise comes
    arguments = connection(tools.settings)
    group = GroupConsumer(arguments, name, (tools.topics.cursor,))
    both = _Both(lease, group.lease)
    producer = LeasedProducer(arguments, both)
    group.fence_with(producer.fence)
    done, ended = asyncio.Event(), asyncio.Event()

    async def session(given: Session) -> None:
        both.begin(given.generation)
        try:
            await do(generation, both, producer)
            done.set()
        finally:
            ended.set()

    running = asyncio.ensure_future(group.run(session))
    waiting = asyncio.create_task(ended.wait())
    try:
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        if done.is_set():
            return
        if lease.generation != generation:
            raise LeaseLostError("another publishes now")
        if running.done():
            running.result()
        raise comes
    finally:
        running.cancel()
        waiting.cancel()
        await asyncio.wait([running, waiting])
        await producer.stop()


async def own_publishing(tools: JobContext, do: Callable[[int, Lease, Sender], Awaitable[None]]) -> None:
    """Run ``do`` (generation, lease, sender) while no other publishes replays; again, if that is taken away.

    Raises:
        whatever ``do`` raises apart from LeaseLostError; AccessError.
    """
    arguments = connection(tools.settings)
    group = GroupConsumer(arguments, tools.topics.groups.replay.name, (tools.topics.cursor,))
    producer = LeasedProducer(arguments, group.lease)
    group.fence_with(producer.fence)
    done = asyncio.Event()

    async def session(given: Session) -> None:
        await do(given.generation, group.lease, producer)
        done.set()

    running = asyncio.ensure_future(again(lambda: group.run(session)))
    finished = asyncio.create_task(done.wait())
    try:
        await asyncio.wait([running, finished], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        running.cancel()
        finished.cancel()
        await asyncio.wait([running, finished])
        await producer.stop()
