"""The lease: which heartbeats prove that the partitions are still ours."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaError

from connectors.kafka.lease import GroupLease

SESSION = 6.0
LOADING = 14  # COORDINATOR_LOAD_IN_PROGRESS


class Coordinator:
    """As aiokafka's. ``member`` of ``members`` or not; ``loading``: it answers heartbeats of anybody."""

    def __init__(self) -> None:
        self.group_id = "group"
        self.member_id = "me"
        self.generation = 4
        self.members = ["me", "another"]
        self.loading = False
        self.away = False
        self.asked = 0
        self.on_heartbeat: Callable[[], None] = lambda: None

    def reset_generation(self) -> None:
        """Not asked for here, as the two below."""

    request_rejoin = reset_generation

    async def _do_commit_offsets(self, assignment: Any, offsets: Any) -> None: ...

    async def _do_heartbeat(self) -> bool:
        self.on_heartbeat()
        return self.loading or self.member_id in self.members

    async def _send_req(self, request: Any) -> Any:
        assert request.group == self.group_id
        self.asked += 1
        if self.away:
            raise KafkaError("away")
        members = [] if self.loading else [(one, "client", "host", b"", b"") for one in self.members]
        group = (LOADING if self.loading else 0, "group", "Stable", "consumer", "range", members)
        return SimpleNamespace(groups=[group])


class Scene:
    def __init__(self) -> None:
        self.now = 100.0
        self.coordinator = Coordinator()
        self.wall = 1_700_000_000.0
        self.lease = GroupLease(SESSION, clock=lambda: self.now, wall=lambda: self.wall)
        self.lease.attach(SimpleNamespace(_coordinator=self.coordinator))

    def wait_long(self) -> None:
        self.now += 9.0

    async def heartbeat(self, after: float) -> bool:
        """Whether the lease is held after a heartbeat, so many seconds later."""
        self.now += after
        assert await self.coordinator._do_heartbeat()
        return self.lease.held()


async def test_a_member_holds_it_and_is_asked_for_once() -> None:
    scene = Scene()
    assert await scene.heartbeat(1.0)
    for _ in range(5):
        assert await scene.heartbeat(1.0)
    assert scene.coordinator.asked == 1
    scene.now += 5.9  # not held any more, yet nobody can have been given the partitions
    assert not scene.lease.held()
    assert await scene.heartbeat(0.0)
    assert scene.coordinator.asked == 1


async def test_a_heartbeat_that_a_loading_coordinator_answers_proves_nothing_after_a_pause() -> None:
    scene = Scene()
    assert await scene.heartbeat(1.0)
    scene.coordinator.members = ["another"]  # the pause was longer than the session
    scene.coordinator.loading = True
    assert not await scene.heartbeat(9.0)
    assert not await scene.heartbeat(1.0)
    scene.coordinator.loading = False
    scene.coordinator.members = ["me", "another"]
    assert await scene.heartbeat(1.0)


async def test_a_heartbeat_while_the_coordinator_loads_is_good_without_a_pause() -> None:
    scene = Scene()
    assert await scene.heartbeat(1.0)
    scene.coordinator.loading = True
    assert await scene.heartbeat(5.0)
    assert scene.coordinator.asked == 1


async def test_who_cannot_be_asked_holds_nothing() -> None:
    scene = Scene()
    scene.coordinator.away = True
    assert not await scene.heartbeat(1.0)
    scene.coordinator.away = False
    assert await scene.heartbeat(1.0)


async def test_an_answer_that_comes_after_a_session_proves_nothing() -> None:
    """The coordinator may have had the heartbeat after it had given the member up."""
    scene = Scene()
    assert await scene.heartbeat(1.0)
    scene.coordinator.members, scene.coordinator.loading = [], True
    scene.coordinator.on_heartbeat = scene.wait_long
    scene.now += 1.0
    assert await scene.coordinator._do_heartbeat()
    scene.now -= 8.0
    assert scene.lease.age == 2.0


async def test_a_stunned_machine_holds_nothing_once_its_wall_clock_is_set() -> None:
    """A virtual machine stood still for 9 s, and no clock that cannot be set counted it."""
    scene = Scene()
    assert await scene.heartbeat(1.0)
    scene.coordinator.members = ["another"]
    assert scene.lease.held()  # a known limit: nothing tells of it yet
    scene.wall += 9.0
    assert not scene.lease.held()
    scene.coordinator.loading = True  # so that the answer alone proves nothing
    assert not await scene.heartbeat(0.5)
    assert scene.lease.age >= 9.0
    scene.coordinator.loading = False
    scene.coordinator.members = ["me"]
    assert await scene.heartbeat(1.0)


async def test_a_wall_clock_that_is_set_costs_no_more_than_a_heartbeat() -> None:
    scene = Scene()
    assert await scene.heartbeat(1.0)
    scene.wall += 3600.0
    assert not scene.lease.held()
    assert await scene.heartbeat(1.0)
    scene.wall -= 7200.0
    assert scene.lease.held()
    scene.now += 4.0
    assert not scene.lease.held()
    assert await scene.heartbeat(1.0)
    scene.wall += 4.0
    assert not scene.lease.held()
