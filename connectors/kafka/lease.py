"""The lease: whether this process may still write for the partitions of its group.

A process that was paused for longer than the session (a paused container, a long garbage collection, a
sleeping laptop) still believes that it owns its partitions, although another member has taken them over. So
before every write it checks the age of its last accepted heartbeat: while that is younger than the session,
the brokers cannot have reassigned its partitions. What remains is a pause between this check and the write to
the socket.

A virtual machine that is stunned (for a snapshot, or moved to another host) does not count that time: with
kvm-clock even CLOCK_BOOTTIME stands still. Afterwards the hypervisor's tools or the time daemon set the wall
clock forward. So the age is the larger one by both clocks; a wall clock that was set for another reason only
costs the time until the next heartbeat. Between the resumption and that moment nothing on this machine tells
of the pause, and no answer of Kafka's protocol has the broker's time.

After a restart, a coordinator that is still loading its groups answers every heartbeat with success. So after
more than a session without heartbeats, an answer proves nothing: then the group is asked whether it has this
member.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

from connectors.kafka.connection import SESSION_SECONDS
from connectors.kafka.membership import ignore_stale_answers, raise_refused_positions
from connectors.kafka.protocol.describe_group import DescribeGroup
from streams.core.errors import LeaseLostError

log = structlog.get_logger()

# Of the session: the rest is the time for a request to reach the broker.
SHARE = 0.6
_LOOK_AGAIN = 0.02
# Meanwhile no heartbeat is sent.
_ASKING_SECONDS = 1.0
_NOT_ALLOWED = 30  # Kafka's GROUP_AUTHORIZATION_FAILED


def _clock() -> float:
    """Seconds, including those when the machine was suspended, because the brokers count them."""
    return time.clock_gettime(_BOOTTIME) if _BOOTTIME is not None else time.monotonic()


_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class GroupLease:
    """The lease of one group membership. Implements `streams.ports.kafka.Lease`.

    It observes the heartbeats of an aiokafka coordinator, which may be in another thread.
    """

    def __init__(
        self,
        session_seconds: float = SESSION_SECONDS,
        clock: Callable[[], float] = _clock,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._wall = wall
        self._renewed_wall = float("-inf")
        self._session = session_seconds
        self._allowed = session_seconds * SHARE
        self._clock = clock
        self._renewed_at = float("-inf")
        self._coordinator: Any = None
        self._last_generation = -1
        self.joined = 0  # number of generations that this process was a member of

    def attach(self, consumer: Any) -> None:
        """Observe the heartbeats of ``consumer`` (a started AIOKafkaConsumer)."""
        coordinator = consumer._coordinator
        ignore_stale_answers(coordinator)
        raise_refused_positions(coordinator)
        heartbeat = coordinator._do_heartbeat

        async def heard() -> bool:
            # The broker's time starts when it receives the request, which is after it was sent.
            sent_at, sent_wall = self._clock(), self._wall()
            succeeded: bool = await heartbeat()
            if succeeded and (self.age < self._session or await _is_member(coordinator)):
                if sent_at >= self._renewed_at:
                    self._renewed_at, self._renewed_wall = sent_at, sent_wall
                if coordinator.generation != self._last_generation:
                    self._last_generation = coordinator.generation
                    self.joined += 1
            return succeeded

        coordinator._do_heartbeat = heard
        self._coordinator = coordinator

    async def renew(self) -> None:
        """Send a heartbeat now; to be called in the consumer's loop."""
        await self._coordinator._do_heartbeat()

    @property
    def generation(self) -> int:
        return -1 if self._coordinator is None else int(self._coordinator.generation)

    @property
    def member(self) -> str:
        """This process's member id, given by the group; empty without one."""
        return "" if self._coordinator is None else str(self._coordinator.member_id)

    @property
    def age(self) -> float:
        """Seconds since the last accepted heartbeat was sent."""
        return max(self._clock() - self._renewed_at, self._wall() - self._renewed_wall)

    def held(self) -> bool:
        return self.generation != -1 and self.age < self._allowed

    async def hold(self, generation: int) -> None:
        while True:
            current = self.generation
            if current != generation:
                raise LeaseLostError(f"generation {generation} of the consumer group is over")
            if self.held():
                return
            await asyncio.sleep(_LOOK_AGAIN)


async def _is_member(coordinator: Any) -> bool:
    """Whether the group has this member; False also if the coordinator cannot tell (yet)."""
    member, group = coordinator.member_id, coordinator.group_id
    try:
        async with asyncio.timeout(_ASKING_SECONDS):
            answer = await coordinator._send_req(DescribeGroup(group))
    except Exception as error:  # whatever it is: the heartbeats must go on
        log.info("membership_not_confirmed", group=group, reason=repr(error))
        return False
    code, members = answer.groups[0][0], answer.groups[0][5]
    if any(member == one[0] for one in members):
        return True
    if code == _NOT_ALLOWED:
        log.warning(
            "membership_not_confirmed",
            group=group,
            reason="this user may not describe the group",
            fix=f"allow it DESCRIBE on group {group}",
        )
    else:
        reason = f"Kafka's error code {code}" if code else "the group has not this member"
        log.info("membership_not_confirmed", group=group, reason=reason)
    return False
