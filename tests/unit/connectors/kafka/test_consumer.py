"""A member of a group: what fails around a rebalance is tried again, or ends `join`."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors as kafka

from connectors.kafka import consumer as consumers
from connectors.kafka.consumer import GroupConsumer, Session
from streams.core.errors import AccessError, LabelstreamError, UnavailableError
from streams.core.records import Partition
from streams.core.topics import ConsumerGroup
from tests.unit.connectors.kafka.fakes import FakeConsumer, until
from tests.waiting import PATIENCE

PLACES = [Partition("labeled", number) for number in range(8)]


class Member:
    """A `GroupConsumer` over a fake consumer, running, and the sessions that it began."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(consumers, "AIOKafkaConsumer", lambda **_: self.consumer)
        monkeypatch.setattr(consumers, "LOOK_SECONDS", 0.01)
        monkeypatch.setattr(consumers, "_FIRST_PAUSE", 0.001)
        self.consumer = FakeConsumer()
        self.sessions: list[Session] = []
        self.fences = 0
        self.group = GroupConsumer(
            {},
            ConsumerGroup("group", {"store": ("labeled",)}),
            producer=SimpleNamespace(fence=self._fence, fence_unconfirmed=lambda: None),  # type: ignore[arg-type]
        )
        self.running = asyncio.create_task(self.group.join(self._work))

    async def assigned(self, places: list[Partition]) -> None:
        await until(lambda: self.consumer.subscribed)
        await self.consumer.rebalance(places)

    async def end(self) -> BaseException | None:
        """What `join` ends with by itself."""
        await asyncio.wait([self.running], timeout=PATIENCE)
        assert self.running.done()
        assert self.consumer.stopped
        return self.running.exception()

    async def _work(self, session: Session) -> None:
        self.sessions.append(session)
        await session.ending.wait()

    def _fence(self) -> None:
        self.fences += 1


@pytest.fixture
async def member(monkeypatch: pytest.MonkeyPatch) -> Any:
    one = Member(monkeypatch)
    yield one
    one.running.cancel()
    await asyncio.wait([one.running])


async def test_offsets_that_the_group_does_not_tell_are_asked_for_again(member: Member) -> None:
    told = member.consumer._coordinator.fetch_committed_offsets
    failures = [
        # What aiokafka makes of an answer with COORDINATOR_NOT_AVAILABLE, and does not try again.
        kafka.KafkaError("GroupCoordinatorNotAvailableError()"),
        OSError("connection reset"),
    ]

    async def fetch(places: Any) -> Any:
        if failures:
            raise failures.pop()
        return await told(places)

    member.consumer._coordinator.fetch_committed_offsets = fetch  # type: ignore[method-assign]
    await member.assigned(PLACES)
    await until(lambda: member.sessions)
    assert member.sessions[0].partitions == set(PLACES)


async def test_offsets_that_may_not_be_told_end_the_role(member: Member) -> None:
    async def fetch(places: Any) -> Any:
        raise kafka.GroupAuthorizationFailedError("group")

    member.consumer._coordinator.fetch_committed_offsets = fetch  # type: ignore[method-assign]
    await member.assigned(PLACES)
    assert isinstance(await member.end(), AccessError)


async def test_all_offsets_are_asked_for_at_once_and_the_listener_does_not_wait(member: Member) -> None:
    await member.assigned([])
    answered = asyncio.Event()
    told = member.consumer._coordinator.fetch_committed_offsets

    async def fetch(places: Any) -> Any:
        await answered.wait()
        return await told(places)

    member.consumer._coordinator.fetch_committed_offsets = fetch  # type: ignore[method-assign]
    many = [Partition(topic, number) for topic in "abcd" for number in range(1024)]
    await member.assigned(many)  # returns: the next heartbeat can go out
    assert not member.sessions
    answered.set()
    await until(lambda: member.sessions)
    assert member.consumer._coordinator.fetches == [len(many)]


async def test_a_session_that_has_not_begun_is_taken_back(member: Member) -> None:
    async def fetch(places: Any) -> Any:
        await asyncio.Event().wait()

    plain = member.consumer._coordinator.fetch_committed_offsets
    member.consumer._coordinator.fetch_committed_offsets = fetch  # type: ignore[method-assign]
    await member.assigned(PLACES)
    member.consumer._coordinator.fetch_committed_offsets = plain  # type: ignore[method-assign]
    await member.assigned(PLACES[:4])
    await until(lambda: member.sessions)
    assert [session.partitions for session in member.sessions] == [set(PLACES[:4])]


async def test_a_fence_that_fails_ends_the_role(member: Member) -> None:
    def fence() -> None:
        raise RuntimeError("the producer is in an impossible state")

    member.group.producer.fence = fence  # type: ignore[method-assign]
    await member.assigned(PLACES)
    await until(lambda: member.sessions)
    member.consumer._coordinator.generation += 1  # the group has moved on: nothing to settle, all to fence
    await member.consumer.rebalance(PLACES)
    assert isinstance(await member.end(), RuntimeError)


async def test_a_cancelled_task_of_the_client_is_not_taken_for_the_end_of_ours(
    member: Member,
) -> None:
    """Seen after a pause longer than the session: the process ended in silence, with exit code 0."""
    await member.assigned(PLACES)
    await until(lambda: member.sessions)
    member.consumer._coordinator.error = asyncio.CancelledError()
    assert isinstance(await member.end(), UnavailableError)


@pytest.mark.parametrize("task", ["fetcher", "metadata", "coordinator"])
async def test_what_a_task_of_the_client_has_failed_with_ends_the_role(member: Member, task: str) -> None:
    """None of them is asked for by a poller, which fetches nothing from its group."""

    async def fail() -> None:
        raise kafka.KafkaError("Unexpected error")

    await member.assigned(PLACES)
    await until(lambda: member.sessions)
    failed = asyncio.create_task(fail())
    if task == "fetcher":
        member.consumer._fetcher._fetch_task = failed
    elif task == "metadata":
        member.consumer._client = SimpleNamespace(_sync_task=failed)
    else:
        member.consumer._coordinator.error = kafka.KafkaError("Unexpected error")
    assert isinstance(await member.end(), UnavailableError)
    await asyncio.wait([failed])
    assert failed.exception() is not None


async def test_a_foreign_exception_of_the_work_ends_the_role(monkeypatch: pytest.MonkeyPatch) -> None:
    member = Member(monkeypatch)

    async def work(session: Session) -> None:
        raise ZeroDivisionError

    await until(lambda: member.consumer.subscribed)
    member.group._work = work
    await member.assigned(PLACES)
    error = await member.end()
    assert isinstance(error, ZeroDivisionError)
    assert not isinstance(error, LabelstreamError)
