"""Replays behind live calls: places left free, and one after the other."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from connectors.llm.behind import Behind
from connectors.llm.pace import Pace
from tests.unit.connectors.llm.test_limit import Callers, Clock, limit_of, settle


def pace_of(level: int, latency: float = 0.0) -> Pace:
    """A pace that has come to ``level``, with answers that take ``latency``."""
    pace = Pace(64)
    pace._level, pace._latency = float(level), latency
    return pace


def unwoken() -> None:
    """Nobody waits."""


@pytest.mark.parametrize(("level", "left"), [(64, 4), (16, 1), (17, 2), (4, 1), (3, 0), (1, 0)])
def test_some_places_are_left_to_live_calls_while_they_come(level: int, left: int) -> None:
    clock = Clock()
    behind = Behind(pace_of(level), clock, unwoken)
    assert behind.may_go(level - 1)
    behind.live_came()
    assert not left or not behind.may_go(level - left)
    assert behind.may_go(level - left - 1)
    clock.now += 3.1
    assert behind.may_go(level - 1)
    assert not behind.may_go(level)


async def test_replays_begin_one_after_the_other_a_little_faster_than_they_are_answered() -> None:
    clock = Clock()
    behind = Behind(pace_of(10, latency=1.0), clock, unwoken)
    began = []
    for _ in range(5000):
        if behind.may_go(0):
            behind.went()
            began.append(clock.now)
        clock.now += 0.001
    behind.close()
    assert len(began) == pytest.approx(5 * 10 * 1.25, abs=2)
    apart = [later - earlier for earlier, later in pairwise(began)]
    assert min(apart) > 0.07


@pytest.mark.parametrize(("level", "apart"), [(10, 0.25), (4, 0.25), (3, 0.0), (1, 0.0)])
async def test_a_slow_time_that_is_over_does_not_hold_replays_up(level: int, apart: float) -> None:
    clock = Clock()
    behind = Behind(pace_of(level, latency=60.0), clock, unwoken)
    for _ in range(2):
        assert behind.may_go(0)
        behind.went()
        clock.now += apart
    behind.close()


async def test_time_that_was_not_used_does_not_make_a_crowd_later() -> None:
    clock = Clock()
    behind = Behind(pace_of(10, latency=1.0), clock, unwoken)
    behind.went()
    clock.now += 60
    behind.went()
    assert not behind.may_go(0)
    behind.close()


async def test_who_is_too_early_is_called_in_time_and_not_after_the_end() -> None:
    clock = Clock()
    woken: list[float] = []
    loop = asyncio.get_running_loop()
    behind = Behind(pace_of(10, latency=0.5), clock, lambda: woken.append(loop.time()))
    behind.went()
    began = loop.time()
    assert not behind.may_go(0)
    assert not behind.may_go(0)
    await asyncio.sleep(0.2)
    assert len(woken) == 1
    assert woken[0] - began > 0.02
    assert not behind.may_go(0)
    behind.close()
    await asyncio.sleep(0.1)
    assert len(woken) == 1


async def test_a_live_call_finds_a_place_beside_a_crowd_of_replays() -> None:
    async with limit_of(32) as limit:
        limit.pace._level = 32.0
        callers = Callers(limit)
        await callers.come("first")
        for number in range(60):
            await callers.come(f"replay {number}", replay=True)
        assert limit.in_flight == 30
        await callers.come("second")
        await callers.come("third")
        assert callers.got[-2:] == ["second", "third"]
        assert limit.in_flight == 32
        limit.left()
        await settle()
        assert limit.state().waiting_replay == 60 - 29
