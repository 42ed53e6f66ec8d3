"""aiokafka's own coordinator, given answers that were meant for another membership."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher, OffsetResetStrategy
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    IllegalGenerationError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.protocol.commit import OffsetFetchResponse_v3
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from connectors.kafka.membership import (
    ignore_stale_answers,
    raise_refused_positions,
    request_positions_at_once,
)

PLACE = TopicPartition("rows", 0)
REFUSALS = [IllegalGenerationError, UnknownMemberIdError, RebalanceInProgressError]


def coordinator_of(during: Callable[[Any], None], code: int) -> Any:
    """A member of generation 4 whose requests are answered with ``code``, after ``during``."""
    coordinator: Any = GroupCoordinator.__new__(GroupCoordinator)
    coordinator.group_id, coordinator.coordinator_id = "group", 0
    coordinator.generation, coordinator.member_id = 4, "old"
    coordinator._rejoin_needed_fut = asyncio.get_running_loop().create_future()

    async def answer(request: Any) -> Any:
        during(coordinator)
        return SimpleNamespace(error_code=code, topics=[("rows", [(0, code)])])

    coordinator._send_req = answer
    ignore_stale_answers(coordinator)
    return coordinator


async def heartbeat(coordinator: Any) -> None:
    await coordinator._do_heartbeat()


async def commit(coordinator: Any) -> None:
    with pytest.raises(tuple(REFUSALS)):
        await coordinator._do_commit_offsets(None, {PLACE: OffsetAndMetadata(1, "")})


def joins_anew(coordinator: Any) -> None:
    coordinator.generation, coordinator.member_id = 5, "new"


def stays(coordinator: Any) -> None:
    """Nothing happens meanwhile."""


ASK = pytest.mark.parametrize("ask", [heartbeat, commit])


@ASK
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refusal_of_a_former_membership_does_not_end_the_present_one(
    ask: Callable[[Any], Awaitable[None]], refusal: Any
) -> None:
    coordinator = coordinator_of(joins_anew, refusal.errno)
    await ask(coordinator)
    assert (coordinator.generation, coordinator.member_id) == (5, "new")
    assert not coordinator._rejoin_needed_fut.done()


@ASK
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refusal_of_the_present_membership_makes_it_join_anew(
    ask: Callable[[Any], Awaitable[None]], refusal: Any
) -> None:
    coordinator = coordinator_of(stays, refusal.errno)
    await ask(coordinator)
    kept = refusal is RebalanceInProgressError
    assert coordinator.generation == (4 if kept else -1)
    assert coordinator._rejoin_needed_fut.done()


async def test_who_asks_for_no_membership_is_heeded() -> None:
    coordinator = coordinator_of(stays, 0)
    coordinator.reset_generation()
    assert coordinator.generation == -1
    assert coordinator._rejoin_needed_fut.done()


def asking(*codes: int) -> Any:
    """A coordinator whose brokers refuse the first requests for offsets with ``codes``."""
    coordinator: Any = GroupCoordinator.__new__(GroupCoordinator)
    coordinator.group_id, coordinator.coordinator_id = "group", 0
    coordinator._retry_backoff_ms = 0
    coordinator._coordinator_dead_fut = asyncio.get_running_loop().create_future()
    left = list(codes)

    async def answer(request: Any) -> Any:
        if left:
            return OffsetFetchResponse_v3(0, [], left.pop(0))
        return OffsetFetchResponse_v3(0, [("rows", [(0, 7, "", 0)])], 0)

    async def look() -> None:
        coordinator.coordinator_id = 1

    coordinator._send_req, coordinator.ensure_coordinator_known = answer, look
    return coordinator


@pytest.mark.parametrize(
    "refusal", [GroupLoadInProgressError, NotCoordinatorForGroupError, GroupCoordinatorNotAvailableError]
)
async def test_offsets_are_asked_for_again_when_the_coordinator_cannot_tell_them(refusal: Any) -> None:
    coordinator = asking(refusal.errno)
    raise_refused_positions(coordinator)
    found = await coordinator.fetch_committed_offsets([PLACE])
    assert found == {PLACE: OffsetAndMetadata(7, "")}
    assert coordinator._coordinator_dead_fut.done() == (refusal is not GroupLoadInProgressError)


async def test_offsets_that_may_not_be_read_are_an_error() -> None:
    coordinator = asking(GroupAuthorizationFailedError.errno)
    raise_refused_positions(coordinator)
    with pytest.raises(GroupAuthorizationFailedError):
        await coordinator.fetch_committed_offsets([PLACE])


async def test_aiokafka_alone_takes_a_refusal_for_a_group_without_commits() -> None:
    """If this fails, the correction is needed no more."""
    coordinator = asking(GroupLoadInProgressError.errno)
    assert await coordinator.fetch_committed_offsets([PLACE]) == {}


EVERY = [TopicPartition(topic, number) for topic in ("a", "b", "c", "d") for number in range(1024)]


class Brokers:
    """Answer an owner of all partitions, of which every second one has a commit, and count its requests."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.coordinator: Any = GroupCoordinator.__new__(GroupCoordinator)
        self.coordinator.group_id, self.coordinator._retry_backoff_ms = "group", 100
        self.coordinator._send_req = self.commits
        self.fetcher: Any = Fetcher.__new__(Fetcher)
        self.fetcher._default_reset_strategy = OffsetResetStrategy.EARLIEST
        self.fetcher._proc_offset_request = self.firsts

    async def commits(self, request: Any) -> Any:
        self.requests["OffsetFetch"] += 1
        return SimpleNamespace(
            topics=[
                (topic, [(number, 7 if number % 2 else -1, "", 0) for number in numbers])
                for topic, numbers in request._partitions
            ]
        )

    async def firsts(self, node_id: int, topics: Any) -> Any:
        self.requests["ListOffsets"] += 1
        return {
            TopicPartition(topic, number): (3, None) for topic, found in topics.items() for number, _ in found
        }

    async def assign(self, assignment: Assignment) -> list[int]:
        """The positions, when all are known."""
        places = sorted(assignment.tps)
        refreshing = asyncio.ensure_future(self.coordinator._commit_refresh_routine(assignment))
        updating = asyncio.ensure_future(self.fetcher._update_fetch_positions(assignment, 1, places))
        await asyncio.wait([refreshing, updating], return_when=asyncio.FIRST_COMPLETED)
        if refreshing.done():
            refreshing.result()
        refreshing.cancel()
        await asyncio.wait([refreshing])
        return [assignment.state_value(place).position for place in places]


async def test_a_new_owner_asks_for_all_positions_with_one_request_of_each_kind() -> None:
    brokers = Brokers()
    request_positions_at_once(SimpleNamespace(_fetcher=brokers.fetcher))
    assert await brokers.assign(Assignment(EVERY)) == [3, 7] * (len(EVERY) // 2)
    assert brokers.requests == {"OffsetFetch": 1, "ListOffsets": 1}


async def test_aiokafka_alone_asks_for_one_position_at_a_time() -> None:
    """If this fails, the correction is needed no more."""
    brokers = Brokers()
    some = EVERY[:200]
    assert await brokers.assign(Assignment(some)) == [3, 7] * (len(some) // 2)
    assert brokers.requests["OffsetFetch"] == len(some)


async def test_a_position_that_is_set_meanwhile_stays() -> None:
    brokers = Brokers()
    request_positions_at_once(SimpleNamespace(_fetcher=brokers.fetcher))
    assignment = Assignment(EVERY[:4])
    commits = brokers.commits

    async def sought(request: Any) -> Any:
        assignment.state_value(EVERY[1]).seek(20)
        return await commits(request)

    brokers.coordinator._send_req = sought
    assert await brokers.assign(assignment) == [3, 20, 3, 7]
