"""Keeps a group membership when an answer for a former membership arrives.

Heartbeats and commits name the membership under which they are sent. aiokafka applies a refusal to the
present membership: it forgets generation and member id, and joins again. A commit may wait at the broker
behind this member's own join (requests of one connection are answered in order), and is refused right after
the join has succeeded. Then aiokafka drops the new membership, and the group waits a session for a member
that no longer exists. This repeats, because each round sends another commit. Other clients had the same
fault, and now compare the two (apache/kafka pull request 7312, librdkafka pull request 4908).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

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
