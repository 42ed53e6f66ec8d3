"""Places at an endpoint: who goes first, what a cancelled caller leaves, and what an outage does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import structlog

from connectors.llm.limit import Limit, Load
from streams.core.context import REPLAY
from streams.core.errors import ConfigurationError, UnavailableError
from tests.unit.connectors.llm.fakes import until


class Clock:
    """Virtual time: who sleeps is woken by `forward`."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self._sleepers.append((self.now + seconds, event))
        await event.wait()

    async def forward(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            await settle()
            due = sorted((at, id(event), event) for at, event in self._sleepers if at <= end)
            if not due:
                break
            at, _, event = due[0]
            self._sleepers = [one for one in self._sleepers if one[1] is not event]
            self.now = max(self.now, at)
            event.set()
        self.now = end

    async def forward_until(self, condition: Callable[[], bool], most: float) -> None:
        end = self.now + most
        while not condition():
            assert self.now < end
            await self.forward(0.05)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def limit_of(
    most: int,
    *,
    reachable: Callable[[], bool] = lambda: True,
    load: Callable[[], Load | None] = lambda: None,
    clock: Clock | None = None,
) -> AsyncIterator[Limit]:
    async def probe() -> bool:
        return reachable()

    async def ask() -> Load | None:
        return load()

    clock = clock or Clock()
    limit = Limit(most, setting="LLM", probe=probe, load=ask, clock=clock, sleep=clock.sleep)
    try:
        yield limit
    finally:
        await limit.close()


class Callers:
    """Tasks that wait for a place, and the order in which they got one."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.got: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, *, replay: bool = False) -> None:
        async def wait() -> None:
            REPLAY.set(replay)
            await self.limit.enter()
            self.got.append(name)

        self.tasks[name] = asyncio.create_task(wait())
        await settle()


async def test_no_more_than_the_limit_are_in_flight_and_places_go_in_order() -> None:
    async with limit_of(2) as limit:
        callers = Callers(limit)
        for name in "abcd":
            await callers.come(name)
        assert callers.got == ["a", "b"]
        assert (limit.state().in_flight, limit.state().waiting) == (2, 2)
        limit.left()
        await settle()
        limit.left()
        await settle()
        assert callers.got == ["a", "b", "c", "d"]
        assert limit.in_flight == 2


async def test_the_state_is_told_while_callers_come() -> None:
    """Metrics are asked for in a thread: the queue may change between two looks at it."""
    async with limit_of(1) as limit:

        class Waiting:
            def done(self) -> bool:
                queue.append(Waiting())  # type: ignore[arg-type]
                return False

        for queue in (limit._live, limit._replay):
            queue.extend([Waiting(), Waiting()])  # type: ignore[list-item]
            told = limit.state()
            queue.clear()
            assert told.waiting + told.waiting_replay == 2


async def test_live_work_goes_before_replays_that_came_earlier() -> None:
    async with limit_of(1) as limit:
        callers = Callers(limit)
        await callers.come("first")
        await callers.come("replay 1", replay=True)
        await callers.come("replay 2", replay=True)
        await callers.come("live 1")
        await callers.come("live 2")
        assert (limit.state().waiting, limit.state().waiting_replay) == (2, 2)
        for _ in range(4):
            limit.left()
            await settle()
        assert callers.got == ["first", "live 1", "live 2", "replay 1", "replay 2"]


async def test_a_replay_does_not_wait_for_ever_behind_live_work() -> None:
    async with limit_of(1) as limit:
        callers = Callers(limit)
        await callers.come("first")
        await callers.come("replay", replay=True)
        for number in range(50):
            await callers.come(f"live {number}")
        for _ in range(50):
            limit.left()
            await settle()
        assert "replay" in callers.got
        assert callers.got.index("replay") > 10
        for task in callers.tasks.values():
            task.cancel()


@pytest.mark.parametrize("turn", [0, 1])
async def test_nor_where_a_place_is_kept_and_each_live_call_finds_it_free(turn: int) -> None:
    async with limit_of(8) as limit:
        limit.pace._level = 8.0
        callers = Callers(limit)
        for number in range(8):
            await callers.come(f"first {number}")
        limit._turn = turn
        await callers.come("replay", replay=True)
        for number in range(50):
            limit.left()
            await callers.come(f"live {number}")
        assert "replay" in callers.got
        assert limit.in_flight == 8
        for task in callers.tasks.values():
            task.cancel()


async def test_cancelled_callers_leave_their_places_to_others() -> None:
    async with limit_of(1) as limit:
        callers = Callers(limit)
        for name in ("holder", "gone", "next"):
            await callers.come(name)
        callers.tasks["gone"].cancel()
        await settle()
        assert limit.state().waiting == 1
        limit.left()
        await settle()
        assert callers.got == ["holder", "next"]
        assert limit.in_flight == 1


async def test_a_place_handed_to_a_caller_as_it_is_cancelled_is_not_lost() -> None:
    async with limit_of(1) as limit:
        callers = Callers(limit)
        for name in ("holder", "unlucky", "next"):
            await callers.come(name)
        limit.left()  # the place is unlucky's now, who has not run since
        callers.tasks["unlucky"].cancel()
        await settle()
        assert callers.got == ["holder", "next"]
        assert limit.in_flight == 1


async def test_nobody_is_sent_until_the_endpoint_answers_a_probe() -> None:
    clock, up = Clock(), False
    async with limit_of(8, reachable=lambda: up, clock=clock) as limit:
        callers = Callers(limit)
        await callers.come("failing")
        limit.leave(UnavailableError("refused", setting="LLM"))
        limit.left()
        assert not limit.available
        assert limit.state().limit == 0
        assert "refused" in limit.state().reason
        for name in "abc":
            await callers.come(name)
        await clock.forward(120)
        assert callers.got == ["failing"]
        up = True
        await clock.forward_until(lambda: limit.available, 2.5)
        await settle()
        assert callers.got[1] == "a"


async def test_an_answer_to_what_was_sent_before_the_outage_does_not_end_it() -> None:
    clock = Clock()
    async with limit_of(8, reachable=lambda: False, clock=clock) as limit:
        await limit.enter()
        await limit.enter()
        sent = clock()
        await clock.forward(1)
        limit.leave(UnavailableError("refused", setting="LLM"))
        limit.answered(sent, 5)
        assert not limit.available
        limit.answered(clock(), 5)
        assert limit.available


async def test_each_reason_of_an_outage_is_logged_once() -> None:
    clock = Clock()
    with structlog.testing.capture_logs() as logs:
        async with limit_of(8, reachable=lambda: False, clock=clock) as limit:
            for _ in range(3):
                limit.leave(ConfigurationError("HTTP 400: max_tokens", setting="LLM_MODEL"))
            limit.leave(ConfigurationError("HTTP 401: key", setting="LLM_KEY"))
    assert [(entry["event"], entry["setting"]) for entry in logs] == [
        ("the endpoint refuses every request, nothing is sent to it", "LLM_MODEL"),
        ("the endpoint refuses every request, nothing is sent to it", "LLM_KEY"),
    ]


async def test_failures_alone_are_no_outage() -> None:
    async with limit_of(4) as limit:
        for _ in range(100):
            await limit.enter()
            limit.failed(UnavailableError("reset"))
        assert limit.available
        assert limit.in_flight == 0


async def test_what_the_endpoint_tells_of_its_queue_lowers_the_limit() -> None:
    clock = Clock()
    async with limit_of(256, load=lambda: Load(64.0, 64.0), clock=clock) as limit:
        callers = Callers(limit)
        limit.pace._level = 128.0
        for number in range(200):
            await callers.come(str(number))
        await clock.forward(0.5)
        assert 60 <= limit.pace.limit <= 72
        assert limit.state().reason == "queueing"
        assert limit.state().endpoint_waiting == 64
        for task in callers.tasks.values():
            task.cancel()


async def test_watching_ends_when_nothing_is_asked_for() -> None:
    clock = Clock()
    asked = 0

    def load() -> None:
        nonlocal asked
        asked += 1

    async with limit_of(4, load=load, clock=clock) as limit:
        await limit.enter()
        await clock.forward(5)
        assert 4 <= asked <= 6  # about once a second
        limit.left()
        await clock.forward(60)
        assert asked <= 6
        await until(lambda: limit._watching is None)


@pytest.mark.parametrize("most", [1, 64])
async def test_close_leaves_no_task_behind(most: int) -> None:
    before = asyncio.all_tasks()
    async with limit_of(most) as limit:
        await limit.enter()
        limit.leave(ConfigurationError("HTTP 401"))
        limit.left()
    await settle()
    assert asyncio.all_tasks() == before
