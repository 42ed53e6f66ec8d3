"""Corrects aiokafka's group membership: stale refusals, and positions that are refused or requested one by
one.

Heartbeats and commits name the membership under which they are sent. aiokafka applies a refusal to the
present membership: it forgets generation and member id, and joins again. A commit may wait at the broker
behind this member's own join (requests of one connection are answered in order), and is refused right after
the join has succeeded. Then aiokafka drops the new membership, and the group waits a session for a member
that no longer exists. This repeats, because each round sends another commit. Other clients had the same
fault, and now compare the two (apache/kafka pull request 7312, librdkafka pull request 4908).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextvars import ContextVar
from typing import Any

from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.errors import GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest

_Membership = tuple[int, str]
_ASKED_AS: ContextVar[_Membership | None] = ContextVar("ASKED_AS", default=None)


def ignore_stale_answers(coordinator: Any) -> None:
    """Make ``coordinator`` (aiokafka's, of a group) ignore refusals of a former membership."""
    reset, rejoin = coordinator.reset_generation, coordinator.request_rejoin

    def membership() -> _Membership:
        return coordinator.generation, coordinator.member_id

    def heeded(action: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            if _ASKED_AS.get() not in (None, membership()):
                return
            token = _ASKED_AS.set(None)  # one of the two calls the other
            try:
                action()
            finally:
                _ASKED_AS.reset(token)

        return run

    def named(ask: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def asked(*arguments: Any) -> Any:
            token = _ASKED_AS.set(membership())
            try:
                return await ask(*arguments)
            finally:
                _ASKED_AS.reset(token)

        return asked

    coordinator.reset_generation = heeded(reset)
    coordinator.request_rejoin = heeded(rejoin)
    coordinator._do_heartbeat = named(coordinator._do_heartbeat)
    coordinator._do_commit_offsets = named(coordinator._do_commit_offsets)


def raise_refused_positions(coordinator: Any) -> None:
    """Make ``coordinator`` (aiokafka's, of a group) raise the error of an answer about commits.

    aiokafka looks only at the errors of single partitions. A broker that is loading the group, or no longer
    coordinates it, names no partition: the member would take its partitions for new and read all again.
    """
    send = coordinator._send_req

    async def sent(request: Any) -> Any:
        answer = await send(request)
        if isinstance(request, OffsetFetchRequest) and answer.error_code:
            error = for_code(answer.error_code)
            if error in (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError):
                coordinator.coordinator_dead()  # look for the present one
            raise error(coordinator.group_id)
        return answer

    coordinator._send_req = sent


def request_positions_at_once(consumer: Any) -> None:
    """Make ``consumer`` (aiokafka's, started) request the commits of all new partitions together. It waits
    for each before it requests the next: 4,096 requests for 4 topics of 1,024 partitions.
    """
    fetcher = consumer._fetcher
    one_by_one = fetcher._update_fetch_positions

    async def update(assignment: Any, node_id: int, places: Collection[Any]) -> Any:
        states = [assignment.state_value(place) for place in places]
        new = [one for one in states if not (one.has_valid_position or one.awaiting_reset)]
        committed = [one.fetch_committed() for one in new]  # they are requested when this task waits
        if committed:
            await asyncio.wait(committed)
        for state, found in zip(new, committed, strict=True):
            if state.has_valid_position or state.awaiting_reset:
                continue  # somebody has set it meanwhile
            if found.result().offset >= 0:
                state.reset_to(found.result().offset)
            elif fetcher._default_reset_strategy != OffsetResetStrategy.NONE:
                state.await_reset(fetcher._default_reset_strategy)
        # Now only those are left for which a broker's offset is needed: one request for all.
        return await one_by_one(assignment, node_id, places)

    fetcher._update_fetch_positions = update
