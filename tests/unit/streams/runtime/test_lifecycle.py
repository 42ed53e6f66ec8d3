"""A role's tasks: when one ends, all do, and the reason is known."""

from __future__ import annotations

import asyncio

import pytest

from streams.observability.watchdog import StalledError, Watchdog
from streams.runtime.lifecycle import watched


async def nothing_owed() -> str:
    return ""


async def for_ever() -> None:
    await asyncio.Event().wait()


async def cancelled_from_inside() -> None:
    task = asyncio.create_task(for_ever())
    asyncio.get_running_loop().call_soon(task.cancel)
    await task


@pytest.mark.parametrize("beside", [False, True])
async def test_a_task_cancelled_from_inside_ends_the_role_with_an_error(beside: bool) -> None:
    tasks = [for_ever(), cancelled_from_inside()]
    work, other = tasks if beside else tasks[::-1]
    with pytest.raises(StalledError, match="cancelled from inside"):
        await watched(work, Watchdog(lambda: 0, nothing_owed), other)


async def test_a_role_that_is_told_to_end_ends_without_an_error() -> None:
    running = asyncio.create_task(watched(for_ever(), Watchdog(lambda: 0, nothing_owed), for_ever()))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
