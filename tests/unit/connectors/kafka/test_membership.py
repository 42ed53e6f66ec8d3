"""aiokafka's own coordinator, given answers that were meant for another membership."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from connectors.kafka.membership import ignore_stale_answers

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
