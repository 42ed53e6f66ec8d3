"""A role that owes work and makes no progress ends with the reason; one that waits does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from streams.core.errors import UnavailableError
from streams.observability.watchdog import StalledError, Watchdog
from tests.waiting import PATIENCE


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def make(progress: Callable[[], object], owed: list[str | Exception]) -> Watchdog:
    async def owes() -> str:
        answer = owed.pop(0) if len(owed) > 1 else owed[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Watchdog(progress, owes, patience=20, look=0, clock=Clock())


async def ends(dog: Watchdog) -> bool:
    """Whether it gives up within a few hundred looks."""
    task = asyncio.create_task(dog.run())
    for _ in range(500):
        await asyncio.sleep(0)
        if task.done():
            break
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
        return False
    with pytest.raises(StalledError):
        await task
    return True


async def test_owing_without_progress_ends_with_what_is_owed() -> None:
    dog = make(lambda: 1, ["7 messages wait"])
    with pytest.raises(StalledError, match="7 messages wait"):
        await asyncio.wait_for(dog.run(), PATIENCE)


async def test_progress_or_nothing_owed_goes_on_for_ever() -> None:
    counts = iter(range(10_000))
    assert not await ends(make(lambda: next(counts), ["owed"]))
    assert not await ends(make(lambda: 1, [""]))


async def test_a_dependency_that_is_away_is_waited_out() -> None:
    assert not await ends(make(lambda: 1, [UnavailableError("Kafka does not answer")]))


async def test_what_was_owed_before_a_pause_does_not_count() -> None:
    owed: list[str | Exception] = [*(["owed"] * 5 + [""]) * 40, ""]
    assert not await ends(make(lambda: 1, owed))


async def test_the_time_in_which_the_process_was_stopped_does_not_count() -> None:
    clock, looks = Clock(), 0

    def progress() -> int:
        nonlocal looks
        looks += 1
        clock.now += 92.0 if looks == 3 else 0.0
        return 0 if looks < 12 else looks

    async def owes() -> str:
        return "not a member"

    assert not await ends(Watchdog(progress, owes, patience=20, look=0, clock=clock))
