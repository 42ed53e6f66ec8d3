"""A group membership is not given up for an answer that was meant for the one before it.

Heartbeats and commits name the membership they are sent under. aiokafka takes an answer that refuses it
for the present one: it forgets generation and member id, and joins anew. A commit that waited at the broker
behind this member's own join (requests of one connection are answered in order) is refused right after the
join has succeeded. Then the new membership is thrown away, and the group waits a session for the member
that nobody is any more: again and again, for each such round brings another commit. Other clients had the
same fault, and compare the two now (apache/kafka pull request 7312, librdkafka pull request 4908).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

_Membership = tuple[int, str]
_ASKED_AS: ContextVar[_Membership | None] = ContextVar("ASKED_AS", default=None)


def ignore_stale_answers(coordinator: Any) -> None:
    """Have ``coordinator`` (aiokafka's, of a group) pass over refusals of a membership it has no more."""
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
